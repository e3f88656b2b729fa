/*
 * cleanup.h - for _cleanup_(): descriptors and folders that are closed where their scope ends.
 *
 * Owns:    nothing.
 * Callers: agent/adapters/{fuse,loopdev,nbddev,openssl}.
 * Thread:  any.
 * Rooms:   rank 4.
 */
#pragma once

#include <dirent.h>
#include <unistd.h>

static inline void ferry_closep(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* Read-only, or synced before: nothing is left to fail. */
}

static inline void ferry_closedirp(DIR **folder)
{
	if (*folder)
		(void)closedir(*folder);
}
