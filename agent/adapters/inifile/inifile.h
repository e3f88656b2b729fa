/*
 * inifile.h - /etc/ferry/ferryd.conf: INI, read with libinih, checked to the last key.
 *
 * Sections in brackets, `key = value`, comments on lines of their own after # or ;. An inline
 * comment is " ;". Nothing is guessed: unknown sections and keys, duplicates, values without
 * their unit, references to nothing are errors; the message is "FILE:LINE: what is wrong; what to
 * do". A key that is missing is told at its section's line. deploy/ferryd.conf.example shows all.
 *
 *   durations  a whole number and its unit: 500ms, 5s, 2m
 *   sizes      a whole number and its unit: 64K, 32M, 1G (powers of 1024); 0 needs none
 *   booleans   yes, no
 *   addresses  numeric: 192.0.2.1, 192.0.2.1:7077, [2001:db8::1]:7077
 *
 * Owns:    nothing that lives longer than a call.
 * Callers: agent/main.
 * Thread:  start-up's only thread: libinih's settings are the process's (set, and put back).
 * Rooms:   ports/config.h is what comes out.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/config.h"

enum { FERRY_INIFILE_BYTES_MAX = 1024 * 1024, FERRY_INIFILE_LINE_MAX = 1000 };

/*
 * Read @path. -EINVAL: its content, with FILE:LINE in the message; -EFBIG; or open(2)'s and
 * read(2)'s errors. @ret is large (FERRY_CONFIG_*_MAX of each): not for the stack of a thread.
 */
int ferry_inifile_load(const char *path, struct ferry_config *ret,
		       struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The same from memory; @name stands for FILE in messages. @text needs no closing NUL. */
int ferry_inifile_parse(const char *name, const char *text, size_t length_bytes,
			struct ferry_config *ret, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* What log_level says. -EINVAL, with what there is. */
int ferry_inifile_log_level(const char *value, enum ferry_severity *ret,
			    struct ferry_error *reterr) FERRY_MUST_CHECK;
