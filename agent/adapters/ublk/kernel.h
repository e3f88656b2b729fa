/*
 * kernel.h - what the ublk driver understands, where Debian 12's <linux/ublk_cmd.h> (Linux 6.1)
 * does not have it yet. Numbers and layouts are those of include/uapi/linux/ublk_cmd.h in
 * Linux 6.12.
 *
 * Owns:    nothing.
 * Callers: adapters/ublk only.
 * Thread:  any.
 * Rooms:   private to adapters/ublk.
 */
#pragma once

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>

#include "agent/base/base.h"

/* Codes that are encoded as ioctl(2)'s: since 6.4; kernels need no longer know the old ones. */
#ifndef UBLK_U_CMD_ADD_DEV
#define UBLK_U_CMD_GET_DEV_INFO _IOR('u', 0x02, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_ADD_DEV _IOWR('u', 0x04, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_DEV _IOWR('u', 0x06, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_STOP_DEV _IOWR('u', 0x07, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_SET_PARAMS _IOWR('u', 0x08, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_GET_PARAMS _IOR('u', 0x09, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_USER_RECOVERY _IOWR('u', 0x10, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_END_USER_RECOVERY _IOWR('u', 0x11, struct ublksrv_ctrl_cmd)
#define UBLK_U_IO_FETCH_REQ _IOWR('u', 0x20, struct ublksrv_io_cmd)
#define UBLK_U_IO_COMMIT_AND_FETCH_REQ _IOWR('u', 0x21, struct ublksrv_io_cmd)
#endif

/* Delete without waiting for who has the device open: since 6.9. */
#ifndef UBLK_U_CMD_DEL_DEV_ASYNC
#define UBLK_U_CMD_DEL_DEV_ASYNC _IOR('u', 0x14, struct ublksrv_ctrl_cmd)
#endif

#ifndef UBLK_F_CMD_IOCTL_ENCODE
#define UBLK_F_CMD_IOCTL_ENCODE (1ULL << 6)
#endif

/* The server copies data by read(2) and write(2) on the character device: since 6.5. */
#ifndef UBLK_F_USER_COPY
#define UBLK_F_USER_COPY (1ULL << 7)
#endif
#ifndef UBLK_IO_BUF_BITS
#define UBLK_IO_BUF_BITS 25
#endif

/* Where a request's data is, of queue 0. */
static inline uint64_t ublk_data_offset(uint32_t tag)
{
	return UBLKSRV_IO_BUF_OFFSET + ((uint64_t)tag << UBLK_IO_BUF_BITS);
}

_Static_assert(sizeof(struct ublksrv_ctrl_cmd) == 32, "the code has its size in it");
_Static_assert(sizeof(struct ublksrv_ctrl_dev_info) == 64, "the kernel copies so much");
_Static_assert(sizeof(struct ublksrv_io_cmd) == 16, "it fits into an ordinary entry");
_Static_assert(sizeof(struct ublksrv_io_desc) == 24, "shared with the kernel");
