/*
 * outcome.h - what one SCSI answer proves, as a pure function (design, rules 1-6).
 *
 * Owns:    nothing.
 * Callers: attempt.c, fence.c, session.c of this folder.
 * Thread:  any.
 * Rooms:   adapters/iscsi only.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/ports/io.h"

/* One answer, or its absence. */
struct ferry_iscsi_answer {
	int status;	    /* enum scsi_status of libiscsi: SAM's, and its own above 0x0f000000. */
	uint8_t error_type; /* Of the sense data: 70h-73h. */
	uint8_t key;
	uint8_t asc;
	uint8_t ascq;
	bool is_short; /* GOOD, but not all bytes were transferred. */
};

enum ferry_iscsi_verdict {
	FERRY_ISCSI_VERDICT_END = 1,	 /* The outcome stands. */
	FERRY_ISCSI_VERDICT_RETRY,	 /* Not executed; at once, a bounded number of times. */
	FERRY_ISCSI_VERDICT_RETRY_LATER, /* Not executed; after a pause, a bounded number of times.
					  */
};

struct ferry_iscsi_conclusion {
	enum ferry_iscsi_verdict verdict;
	enum ferry_outcome outcome; /* With RETRY: what it is when the retries are used up. */
	enum ferry_cause cause;
};

struct ferry_iscsi_conclusion ferry_iscsi_conclude(const struct ferry_iscsi_answer *answer);

/*
 * Of a SYNCHRONIZE CACHE. What the target could not write it says once (LIO as NOT READY, others as
 * an error of the medium), and the next one succeeds: only what is sure not to have been tried may
 * be sent again, elsewhere too.
 */
struct ferry_iscsi_conclusion ferry_iscsi_conclude_sync(const struct ferry_iscsi_answer *answer);

/* CHECK CONDITION with UNIT ATTENTION: the command was not executed. */
bool ferry_iscsi_answer_is_unit_attention(const struct ferry_iscsi_answer *answer);

/* The target does not know this command or this field of it. */
bool ferry_iscsi_answer_is_unsupported(const struct ferry_iscsi_answer *answer);

/* "CHECK CONDITION 5/24/00" and the like, for people. */
void ferry_iscsi_answer_describe(const struct ferry_iscsi_answer *answer, char *ret,
				 size_t size_bytes);
