/*
 * vpd.h - what a lun says of itself: bounded parsers of INQUIRY, VPD pages, capacity, mode page.
 *
 * Pure: bytes in, facts out; bytes are the target's and are never trusted.
 *
 * Owns:    nothing.
 * Callers: session.c of this folder.
 * Thread:  any.
 * Rooms:   adapters/iscsi only.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/ports/identity.h"

/* Everything that a login learns. */
struct ferry_iscsi_lun {
	char wwid[sizeof(((struct ferry_lun_identity *)NULL)->wwid)];
	char vendor[9];
	char product[17];
	char serial[33];
	uint64_t size_blocks;
	uint32_t block_bytes;
	uint32_t transfer_blocks_max; /* 0: no limit told. */
	uint32_t unmap_blocks_max;    /* 0: no limit told. */
	uint64_t same_blocks_max;     /* WRITE SAME; 0: no limit told. */
	bool has_unmap;
	bool has_unmap_by_same; /* WRITE SAME (16) with UNMAP. */
	bool unmapped_reads_zeroes;
	bool has_fua;
	bool has_write_cache;
	bool has_reservations;
	bool can_persist;  /* Registrations may outlive a power cut (PTPL_C). */
	bool does_persist; /* They do now (PTPL_A). */
};

/* Each returns 0 or -EBADMSG: too short or senseless; @ret then is partly written. */

/* Standard INQUIRY. -ENODEV: no lun there; -ENOTBLK: not a disk. */
int ferry_iscsi_vpd_standard(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);

/* Page 83h. -ENOENT: no designator that names the lun. */
int ferry_iscsi_vpd_identification(const uint8_t *data, size_t length_bytes,
				   struct ferry_iscsi_lun *ret);

/* Page 80h. */
int ferry_iscsi_vpd_serial(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);

/* Page B0h. */
int ferry_iscsi_vpd_limits(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);

/* Page B2h. */
int ferry_iscsi_vpd_provisioning(const uint8_t *data, size_t length_bytes,
				 struct ferry_iscsi_lun *ret);

/* READ CAPACITY (16). */
int ferry_iscsi_vpd_capacity(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);

/* MODE SENSE (10) of the caching page. */
int ferry_iscsi_vpd_caching(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);

/* PERSISTENT RESERVE IN, REPORT CAPABILITIES (SPC-4, 6.15.4). */
int ferry_iscsi_vpd_capabilities(const uint8_t *data, size_t length_bytes,
				 struct ferry_iscsi_lun *ret);

/* Big-endian, as SCSI has everything. */
uint32_t ferry_iscsi_get_u16(const uint8_t *data);
uint32_t ferry_iscsi_get_u32(const uint8_t *data);
uint64_t ferry_iscsi_get_u64(const uint8_t *data);
