/*
 * scsi_reservation.h - persistent reservations as SCSI has them in bytes: commands, data, sense.
 *
 * SPC-4, 6.15 (PERSISTENT RESERVE IN), 6.16 (OUT), 4.5 (sense data). All of it big-endian. What a
 * target says is never trusted: each parser is bounded, and what does not fit is -EBADMSG.
 *
 * Owns:    nothing: pure functions on the caller's bytes.
 * Callers: adapters/sgio, adapters/iscsi, tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/ports/fence.h"

enum {
	FERRY_PR_CDB_BYTES = 10,
	FERRY_PR_KEYS_BYTES = 8 + 8 * FERRY_KEYS_MAX,
	FERRY_PR_RESERVATION_BYTES = 24,
	FERRY_PR_CAPABILITIES_BYTES = 8,
	FERRY_PR_OUT_BYTES = 24,
	/* Types, SPC-4, 6.15.3.4. Those from this one on let every registrant write. */
	FERRY_PR_WRITE_EXCLUSIVE_REGISTRANTS = 5,
	/* Sense keys and additional codes that more than one caller looks for. */
	FERRY_SENSE_ILLEGAL_REQUEST = 0x5,
	FERRY_SENSE_UNIT_ATTENTION = 0x6,
	FERRY_ASC_INVALID_OPCODE = 0x20,
	FERRY_ASC_INVALID_CDB_FIELD = 0x24,
};

/* Service actions of PERSISTENT RESERVE IN, each one more than its code: no enum begins at 0. */
enum ferry_pr_in {
	FERRY_PR_READ_KEYS = 1,
	FERRY_PR_READ_RESERVATION,
	FERRY_PR_REPORT_CAPABILITIES,
};

/* Service actions of PERSISTENT RESERVE OUT, likewise. */
enum ferry_pr_out {
	FERRY_PR_REGISTER = 1,
	FERRY_PR_RESERVE,
	FERRY_PR_PREEMPT = 5,
	FERRY_PR_PREEMPT_AND_ABORT,
	FERRY_PR_REGISTER_AND_IGNORE,
};

struct ferry_pr_keys {
	uint32_t generation; /* Counts changes; begins anew when the target does. */
	uint32_t count;
	struct ferry_key keys[FERRY_KEYS_MAX];
};

struct ferry_pr_reservation {
	struct ferry_key holder; /* 0: not reserved. */
	uint8_t type;		 /* 0: not reserved. */
};

struct ferry_pr_capabilities {
	bool keeps;		   /* APTPL: registrations outlive a loss of power. */
	bool has_registrants_type; /* Write Exclusive - Registrants Only; true if it says none. */
};

struct ferry_sense {
	uint8_t key;
	uint8_t asc;
	uint8_t ascq;
	bool is_deferred; /* Of an earlier command. */
};

void ferry_pr_in_cdb(enum ferry_pr_in action, uint16_t allocation_bytes,
		     uint8_t ret[FERRY_PR_CDB_BYTES]);
void ferry_pr_out_cdb(enum ferry_pr_out action, uint8_t ret[FERRY_PR_CDB_BYTES]);

/* The parameters of OUT. @other is the service action's key; APTPL goes with REGISTER. */
void ferry_pr_out_parameters(enum ferry_pr_out action, struct ferry_key own, struct ferry_key other,
			     uint8_t ret[FERRY_PR_OUT_BYTES]);

/*
 * What a target answered. 0, or -EBADMSG: too short, or it makes no sense; -E2BIG: more
 * registrations than FERRY_KEYS_MAX. @ret is written on success only.
 */
int ferry_pr_get_keys(const uint8_t *data, size_t length_bytes,
		      struct ferry_pr_keys *ret) FERRY_MUST_CHECK;
int ferry_pr_get_reservation(const uint8_t *data, size_t length_bytes,
			     struct ferry_pr_reservation *ret) FERRY_MUST_CHECK;
int ferry_pr_get_capabilities(const uint8_t *data, size_t length_bytes,
			      struct ferry_pr_capabilities *ret) FERRY_MUST_CHECK;

/* Fixed or descriptor format. */
int ferry_sense_get(const uint8_t *data, size_t length_bytes,
		    struct ferry_sense *ret) FERRY_MUST_CHECK;

/* A key is there once for each nexus that has it. */
static inline uint32_t ferry_pr_keys_like(const struct ferry_pr_keys *keys, struct ferry_key key)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < keys->count; i++)
		count += keys->keys[i].v == key.v;
	return count;
}

static inline bool ferry_pr_keys_have(const struct ferry_pr_keys *keys, struct ferry_key key)
{
	return ferry_pr_keys_like(keys, key) > 0;
}
