/*
 * statefile.h - the store port as files in one directory.
 *
 * One file for each key, replaced as a whole: a new file is written and fsynced, renamed over the
 * old one, and the directory is fsynced; so a power cut leaves the old value or the new one. Each
 * file says its key, its length and its checksum, so that damage is told from absence: with a
 * forgotten epoch a node could serve what another owns.
 *
 * Owns:    the directory's descriptor, and a lock on it: one agent at a time.
 * Callers: agent/main opens and closes it; fencing/ sees struct ferry_store only.
 * Thread:  the cluster loop's; blocks for two fsyncs at most.
 * Rooms:   none.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/store.h"

enum { FERRY_STATEFILE_KEY_MAX = 64 }; /* The longest key, in bytes. */

struct ferry_statefile;

/*
 * Open the directory @path, making it (0700) if its parent is there. Left-overs of a save that a
 * power cut ended are removed.
 * -EBUSY: another agent uses it; -EPERM: others may write to it, or it is another user's;
 * -ENOENT, -ENOTDIR, -EACCES, -EROFS, -ENOMEM.
 */
int ferry_statefile_open(const char *path, struct ferry_statefile **ret,
			 struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The port. Valid as long as the directory is open. load and save: -EINVAL for no valid key. */
struct ferry_store *ferry_statefile_store(struct ferry_statefile *statefile);

/* NULL is a no-op. Returns NULL. */
struct ferry_statefile *ferry_statefile_close(struct ferry_statefile *statefile);
static inline void ferry_statefile_closep(struct ferry_statefile **statefile)
{
	*statefile = ferry_statefile_close(*statefile);
}
