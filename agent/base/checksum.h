/*
 * checksum.h - CRC32C for what crosses a wire or a disk, and a 128-bit hash for names.
 *
 * Owns:    nothing.
 * Callers: proto/ (headers, payloads), core (lun identity), cache and migrate (blocks).
 * Thread:  any.
 * Rooms:   rank 0. The one foreign library below rank 4: ISA-L, which is pure computation
 *          (docs/decisions/0001-isa-l-in-base.md).
 */
#pragma once

#include "agent/base/arena.h"
#include "agent/base/base.h"

/* CRC32C (Castagnoli, RFC 3720 B.4). Start with @crc 0; chain by passing the previous result. */
uint32_t ferry_crc32c(uint32_t crc, const void *data, size_t length_bytes);
uint32_t ferry_crc32c_segments(uint32_t crc, const struct ferry_segments *segments);

/* Not for adversaries: names luns by what their devices say of themselves. */
struct ferry_uuid ferry_hash128(const void *data, size_t length_bytes);
