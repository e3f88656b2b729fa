#include "agent/adapters/iscsi/outcome.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>

enum {
	ASC_NOT_READY = 0x04,
	ASC_LUN_NOT_SUPPORTED = 0x25,
	ASC_WRITE_PROTECT = 0x27,
	ASCQ_SPACE_ALLOCATION_FAILED = 0x07, /* With 27h: SBC-3, 4.7.3.6. */
	ASC_RESET = 0x29,
	ASC_INVALID_OPCODE = 0x20,
	ASC_INVALID_CDB_FIELD = 0x24,
};

static struct ferry_iscsi_conclusion end(enum ferry_outcome outcome, enum ferry_cause cause)
{
	return (struct ferry_iscsi_conclusion){FERRY_ISCSI_VERDICT_END, outcome, cause};
}

static struct ferry_iscsi_conclusion failed(enum ferry_cause cause)
{
	return end(FERRY_OUTCOME_FAILED, cause);
}

static struct ferry_iscsi_conclusion unknown(void)
{
	return end(FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
}

static struct ferry_iscsi_conclusion conclude_attention(const struct ferry_iscsi_answer *answer)
{
	/*
	 * A unit attention is reported instead of executing the command (SAM-5, 5.14). After a
	 * reset the caller has to know before it goes on: what wasn't flushed is suspect.
	 */
	if (answer->asc == ASC_RESET)
		return failed(FERRY_CAUSE_RESET);
	return (struct ferry_iscsi_conclusion){FERRY_ISCSI_VERDICT_RETRY, FERRY_OUTCOME_FAILED,
					       FERRY_CAUSE_PATH};
}

static struct ferry_iscsi_conclusion conclude_sense(const struct ferry_iscsi_answer *answer)
{
	/*
	 * A deferred error tells of an earlier command that was acknowledged, and the present one
	 * isn't executed (SPC-4, 4.5.7): what that one wrote is lost.
	 */
	if (answer->error_type == SCSI_SENSE_FIXED_DEFERRED_ERRORS ||
	    answer->error_type == SCSI_SENSE_DESCRIPTOR_DEFERRED_ERRORS)
		return failed(FERRY_CAUSE_LOST);

	switch (answer->key) {
	case SCSI_SENSE_RECOVERED_ERROR:
		if (answer->is_short)
			return unknown();
		return end(FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	case SCSI_SENSE_NOT_READY:
		return failed(FERRY_CAUSE_PATH);
	case SCSI_SENSE_MEDIUM_ERROR:
	case SCSI_SENSE_HARDWARE_ERROR:
		return failed(FERRY_CAUSE_MEDIUM);
	case SCSI_SENSE_ILLEGAL_REQUEST:
		/* The lun was taken from this initiator; others may still reach it. */
		if (answer->asc == ASC_LUN_NOT_SUPPORTED)
			return failed(FERRY_CAUSE_PATH);
		return failed(FERRY_CAUSE_INVALID);
	case SCSI_SENSE_UNIT_ATTENTION:
		return conclude_attention(answer);
	case SCSI_SENSE_DATA_PROTECTION:
		if (answer->asc == ASC_WRITE_PROTECT &&
		    answer->ascq == ASCQ_SPACE_ALLOCATION_FAILED)
			return failed(FERRY_CAUSE_NO_SPACE);
		return failed(FERRY_CAUSE_INVALID);
	default:
		/* ABORTED COMMAND above all: it may have been executed in part, and still be. */
		return unknown();
	}
}

struct ferry_iscsi_conclusion ferry_iscsi_conclude(const struct ferry_iscsi_answer *answer)
{
	ferry_assert(answer);

	switch (answer->status) {
	case SCSI_STATUS_GOOD:
		if (answer->is_short)
			return unknown();
		return end(FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	case SCSI_STATUS_CHECK_CONDITION:
		return conclude_sense(answer);
	case SCSI_STATUS_BUSY:
	case SCSI_STATUS_TASK_SET_FULL:
	case SCSI_STATUS_ACA_ACTIVE:
		return (struct ferry_iscsi_conclusion){FERRY_ISCSI_VERDICT_RETRY_LATER,
						       FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH};
	case SCSI_STATUS_RESERVATION_CONFLICT:
		return failed(FERRY_CAUSE_CONFLICT);
	case SCSI_STATUS_TIMEOUT:
		return end(FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
	default:
		/* TASK ABORTED, and the library's CANCELLED and ERROR: no answer at all. */
		return unknown();
	}
}

/* Becoming ready, or a port of an asymmetric target that does not serve: SPC-4, 4.5.6. */
static bool is_not_tried(const struct ferry_iscsi_answer *answer)
{
	return answer->asc == ASC_NOT_READY &&
	       (answer->ascq == 0x01 || (answer->ascq >= 0x0a && answer->ascq <= 0x0c));
}

struct ferry_iscsi_conclusion ferry_iscsi_conclude_sync(const struct ferry_iscsi_answer *answer)
{
	ferry_assert(answer);
	if (answer->status == SCSI_STATUS_CHECK_CONDITION &&
	    (answer->key == SCSI_SENSE_MEDIUM_ERROR || answer->key == SCSI_SENSE_HARDWARE_ERROR ||
	     (answer->key == SCSI_SENSE_NOT_READY && !is_not_tried(answer))))
		return failed(FERRY_CAUSE_LOST);
	return ferry_iscsi_conclude(answer);
}

bool ferry_iscsi_answer_is_unit_attention(const struct ferry_iscsi_answer *answer)
{
	return answer->status == SCSI_STATUS_CHECK_CONDITION &&
	       answer->key == SCSI_SENSE_UNIT_ATTENTION;
}

bool ferry_iscsi_answer_is_unsupported(const struct ferry_iscsi_answer *answer)
{
	return answer->status == SCSI_STATUS_CHECK_CONDITION &&
	       answer->key == SCSI_SENSE_ILLEGAL_REQUEST &&
	       (answer->asc == ASC_INVALID_OPCODE || answer->asc == ASC_INVALID_CDB_FIELD);
}

void ferry_iscsi_answer_describe(const struct ferry_iscsi_answer *answer, char *ret,
				 size_t size_bytes)
{
	const char *name = NULL;

	ferry_assert(answer && ret);
	ferry_assert(size_bytes > 0);
	switch (answer->status) {
	case SCSI_STATUS_GOOD:
		name = answer->is_short ? "short transfer" : "GOOD";
		break;
	case SCSI_STATUS_BUSY:
		name = "BUSY";
		break;
	case SCSI_STATUS_TASK_SET_FULL:
		name = "TASK SET FULL";
		break;
	case SCSI_STATUS_RESERVATION_CONFLICT:
		name = "RESERVATION CONFLICT";
		break;
	case SCSI_STATUS_TASK_ABORTED:
		name = "TASK ABORTED";
		break;
	case SCSI_STATUS_CANCELLED:
		name = "session lost";
		break;
	default:
		break;
	}
	if (answer->status == SCSI_STATUS_CHECK_CONDITION)
		(void)snprintf(ret, size_bytes, "CHECK CONDITION %x/%02x/%02x", answer->key,
			       answer->asc, answer->ascq);
	else if (name)
		(void)snprintf(ret, size_bytes, "%s", name);
	else
		(void)snprintf(ret, size_bytes, "status %#x", (unsigned int)answer->status);
}
