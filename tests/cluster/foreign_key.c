/*
 * foreign_key.c - somebody else who uses a lun: registers a key there, reserves it, and stays.
 *   foreign_key PORTAL TARGET LUN KEY [unreserved]
 * Says "registered" once it is so; ends with its standard input. After each line that it reads, it
 * writes a block and says how that went: the SCSI status, as a number.
 */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int reserve(struct iscsi_context *iscsi, int lun, int action, uint64_t own, uint64_t other)
{
	struct scsi_persistent_reserve_out_basic parameters = {
		.reservation_key = own, .service_action_reservation_key = other};
	struct scsi_task *task = iscsi_persistent_reserve_out_sync(
		iscsi, lun, action, SCSI_PERSISTENT_RESERVE_SCOPE_LU,
		SCSI_PERSISTENT_RESERVE_TYPE_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, &parameters);
	int status = task ? task->status : -1;

	scsi_free_scsi_task(task);
	return status;
}

static int block_write(struct iscsi_context *iscsi, int lun)
{
	static unsigned char block[512] = "foreign";
	struct scsi_task *task =
		iscsi_write10_sync(iscsi, lun, 0, block, sizeof(block), 512, 0, 0, 0, 0, 0);
	int status = task ? task->status : -1;

	scsi_free_scsi_task(task);
	return status;
}

int main(int argc, char **argv)
{
	struct iscsi_context *iscsi = iscsi_create_context("iqn.2026-11.ferry.lab:foreign");
	uint64_t key;
	int lun;

	if (argc < 5 || argc > 6 || !iscsi)
		return 2;
	lun = (int)strtoul(argv[3], NULL, 10);
	key = strtoull(argv[4], NULL, 16);
	iscsi_set_targetname(iscsi, argv[2]);
	iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
	if (iscsi_full_connect_sync(iscsi, argv[1], lun) != 0 ||
	    reserve(iscsi, lun, SCSI_PERSISTENT_RESERVE_REGISTER, 0, key) != SCSI_STATUS_GOOD ||
	    (argc == 5 &&
	     reserve(iscsi, lun, SCSI_PERSISTENT_RESERVE_RESERVE, key, 0) != SCSI_STATUS_GOOD)) {
		fprintf(stderr, "foreign_key: %s\n", iscsi_get_error(iscsi));
		return 1;
	}
	printf("registered\n");
	(void)fflush(stdout);
	while (getchar() == '\n') {
		printf("%d\n", block_write(iscsi, lun));
		(void)fflush(stdout);
	}
	return 0; /* The session ends with the process. */
}
