/*
 * line.h - the first line of a small file: what sysfs and its like say.
 *
 * Owns:    nothing.
 * Callers: agent/adapters/{nbddev,sgio,uring}: the one folder there that others may include.
 * Thread:  any.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_LINE_BYTES_MAX = 512 };

/*
 * The first line of the file that @format names, without its end, and no more of it than has room.
 * -ENOENT for any failure, an empty line too: absent is what it means here, for a device may go
 * away while one looks.
 */
int ferry_line_read(char *ret, size_t size_bytes, const char *format, ...) FERRY_PRINTF(3, 4);
