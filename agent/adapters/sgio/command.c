#include <sys/ioctl.h>

#include "agent/adapters/sgio/private.h"

/* The kernel's include/scsi/scsi_status.h and SAM-5, 5.3.1; no user header has them all. */
enum {
	STATUS_GOOD = 0x00,
	STATUS_CHECK_CONDITION = 0x02,
	STATUS_BUSY = 0x08,
	STATUS_RESERVATION_CONFLICT = 0x18,
	STATUS_TASK_SET_FULL = 0x28,
	HOST_OK = 0x00,
	HOST_NO_CONNECT = 0x01,
	DRIVER_SENSE = 0x08, /* Before Linux 5.14: there is sense data, which is no error. */
	SENSE_BYTES = 64,
};

int ferry_sgio_reset(int fd)
{
	/* Without the flag the kernel would go on to reset the target, then the session. */
	int what = SG_SCSI_RESET_DEVICE | FERRY_SGIO_RESET_ONLY;

	ferry_assert(fd >= 0);
	if (ioctl(fd, SG_SCSI_RESET, &what) == 0)
		return 0;
	switch (errno) {
	case EIO: /* Refused or, after the transport's own time for it, not answered. */
		return -ETIMEDOUT;
	case ENODEV:
	case ENXIO:
		return -ENOTCONN;
	default:
		return -EIO;
	}
}

enum ferry_sgio_answer ferry_sgio_judge(const struct sg_io_hdr *header, struct ferry_sense *ret)
{
	ferry_assert(header && ret);
	*ret = (struct ferry_sense){};
	/* The host's word comes first: where it has one, the status is none of the target's. */
	if (header->host_status == HOST_NO_CONNECT)
		return FERRY_SGIO_UNSENT;
	if (header->host_status != HOST_OK || (header->driver_status & ~DRIVER_SENSE) != 0)
		return FERRY_SGIO_UNKNOWN;
	switch (header->status) {
	case STATUS_GOOD:
		return FERRY_SGIO_GOOD;
	case STATUS_RESERVATION_CONFLICT:
		return FERRY_SGIO_CONFLICT;
	case STATUS_BUSY:
	case STATUS_TASK_SET_FULL:
		return FERRY_SGIO_BUSY;
	case STATUS_CHECK_CONDITION:
		break;
	default:
		return FERRY_SGIO_UNKNOWN; /* TASK ABORTED above all. */
	}
	if (ferry_sense_get(header->sbp, header->sb_len_wr, ret) < 0)
		return FERRY_SGIO_UNKNOWN;
	if (ret->key == FERRY_SENSE_UNIT_ATTENTION)
		return FERRY_SGIO_ATTENTION;
	if (ret->key == FERRY_SENSE_ILLEGAL_REQUEST &&
	    (ret->asc == FERRY_ASC_INVALID_OPCODE || ret->asc == FERRY_ASC_INVALID_CDB_FIELD))
		return FERRY_SGIO_UNSUPPORTED;
	return FERRY_SGIO_REFUSED;
}

enum ferry_sgio_answer ferry_sgio_send(int fd, struct ferry_sgio_command *command)
{
	uint8_t sense[SENSE_BYTES] = {};
	struct sg_io_hdr header = {
		.interface_id = 'S',
		.dxfer_direction = !command->data    ? SG_DXFER_NONE
				   : command->is_out ? SG_DXFER_TO_DEV
						     : SG_DXFER_FROM_DEV,
		.cmd_len = sizeof(command->cdb),
		.mx_sb_len = sizeof(sense),
		.dxfer_len = command->data_bytes,
		.dxferp = command->data,
		.cmdp = command->cdb,
		.sbp = sense,
		.timeout = command->timeout_ms,
	};
	enum ferry_sgio_answer answer;

	ferry_assert(fd >= 0);
	ferry_assert(command->timeout_ms > 0);
	ferry_assert(command->data || command->data_bytes == 0);
	command->error = 0;
	if (ioctl(fd, SG_IO, &header) < 0) {
		command->error = -errno;
		return FERRY_SGIO_UNSENT;
	}
	answer = ferry_sgio_judge(&header, &command->sense);
	command->host_status = header.host_status;
	command->is_checked =
		header.host_status == HOST_OK && header.status == STATUS_CHECK_CONDITION;
	if (answer == FERRY_SGIO_GOOD && header.resid > 0 &&
	    (uint32_t)header.resid <= command->data_bytes)
		command->data_bytes -= (uint32_t)header.resid;
	return answer;
}
