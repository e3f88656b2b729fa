/*
 * openssl.h - the auth port by OpenSSL: HMAC-SHA256 (RFC 2104) with the cluster's key file, and
 * the system's random numbers.
 *
 * Owns:    the key in memory, wiped at close.
 * Callers: agent/cluster (open, close), tests (create), proto/handshake.c by the port.
 * Thread:  open and close: any; the port's calls: the data loop.
 * Rooms:   adapters/openssl.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/auth.h"

enum {
	FERRY_AUTH_KEY_BYTES_MIN = 32,
	FERRY_AUTH_KEY_BYTES_MAX = 4096,
	FERRY_AUTH_KEY_BYTES_MADE = 128, /* As the user guide makes them. */
};

/*
 * Load the key from the file @path. Start-up only: may block. The whole file is the key, byte by
 * byte, a last newline too: copy it, never retype it.
 * -ENOENT, -EACCES (this process may not read it); -EPERM: others can read or write it, or it
 * belongs neither to root nor to this process' user; -EINVAL: too short, too long or no regular
 * file; -EIO, -ENOMEM.
 */
int ferry_auth_file_open(const char *path, struct ferry_auth **ret,
			 struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Wipe the key and release @auth. NULL is a no-op. Returns NULL. */
struct ferry_auth *ferry_auth_file_close(struct ferry_auth *auth);
static inline void ferry_auth_file_closep(struct ferry_auth **auth)
{
	*auth = ferry_auth_file_close(*auth);
}

/*
 * Make a new key file, mode 0600, durable on return. -EEXIST: there is one, it is never
 * overwritten. Or open(2)'s and write(2)'s errors; a file that was begun is removed.
 */
int ferry_auth_file_create(const char *path, struct ferry_error *reterr) FERRY_MUST_CHECK;
