/* outcome_test.c - each answer of a target and what it proves: the table that rules 1-6 rest on. */
#include "agent/adapters/iscsi/outcome.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define GOOD                                                                                       \
	{                                                                                          \
		SCSI_STATUS_GOOD, 0, 0, 0, 0, false                                                \
	}
#define STATUS(status)                                                                             \
	{                                                                                          \
		status, 0, 0, 0, 0, false                                                          \
	}
#define SENSE(key, asc, ascq)                                                                      \
	{                                                                                          \
		SCSI_STATUS_CHECK_CONDITION, 0x70, key, asc, ascq, false                           \
	}
#define DONE FERRY_ISCSI_VERDICT_END, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE
#define FAILED(cause) FERRY_ISCSI_VERDICT_END, FERRY_OUTCOME_FAILED, FERRY_CAUSE_##cause
#define UNKNOWN(cause) FERRY_ISCSI_VERDICT_END, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_##cause
#define RETRY FERRY_ISCSI_VERDICT_RETRY, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH
#define LATER FERRY_ISCSI_VERDICT_RETRY_LATER, FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH

static const struct {
	const char *name;
	struct ferry_iscsi_answer answer;
	struct ferry_iscsi_conclusion want;
} TABLE[] = {
	{"good", GOOD, {DONE}},
	{"good but short", {SCSI_STATUS_GOOD, 0, 0, 0, 0, true}, {UNKNOWN(PATH)}},
	{"no sense", SENSE(0x0, 0, 0), {UNKNOWN(PATH)}},
	{"recovered", SENSE(0x1, 0x17, 0x01), {DONE}},
	{"recovered, short", {SCSI_STATUS_CHECK_CONDITION, 0x70, 1, 0, 0, true}, {UNKNOWN(PATH)}},
	{"not ready", SENSE(0x2, 0x04, 0x01), {FAILED(PATH)}},
	{"unrecovered read error", SENSE(0x3, 0x11, 0x00), {FAILED(MEDIUM)}},
	{"write error", SENSE(0x3, 0x0c, 0x00), {FAILED(MEDIUM)}},
	{"hardware", SENSE(0x4, 0x44, 0x00), {FAILED(MEDIUM)}},
	{"beyond the end", SENSE(0x5, 0x21, 0x00), {FAILED(INVALID)}},
	{"invalid operation", SENSE(0x5, 0x20, 0x00), {FAILED(INVALID)}},
	{"no such lun", SENSE(0x5, 0x25, 0x00), {FAILED(PATH)}},
	{"power on", SENSE(0x6, 0x29, 0x01), {FAILED(RESET)}},
	{"reset", SENSE(0x6, 0x29, 0x00), {FAILED(RESET)}},
	{"lun reset", SENSE(0x6, 0x29, 0x03), {FAILED(RESET)}},
	{"nexus loss", SENSE(0x6, 0x29, 0x07), {FAILED(RESET)}},
	{"reservations preempted", SENSE(0x6, 0x2a, 0x03), {RETRY}},
	{"registrations preempted", SENSE(0x6, 0x2a, 0x05), {RETRY}},
	{"capacity changed", SENSE(0x6, 0x2a, 0x09), {RETRY}},
	{"commands cleared", SENSE(0x6, 0x2f, 0x00), {RETRY}},
	{"write protected", SENSE(0x7, 0x27, 0x00), {FAILED(INVALID)}},
	{"space allocation failed", SENSE(0x7, 0x27, 0x07), {FAILED(NO_SPACE)}},
	{"aborted command", SENSE(0xb, 0x00, 0x00), {UNKNOWN(PATH)}},
	{"miscompare", SENSE(0xe, 0x1d, 0x00), {UNKNOWN(PATH)}},
	{"deferred", {SCSI_STATUS_CHECK_CONDITION, 0x71, 3, 0x0c, 0, false}, {FAILED(LOST)}},
	{"deferred, descriptor",
	 {SCSI_STATUS_CHECK_CONDITION, 0x73, 4, 0, 0, false},
	 {FAILED(LOST)}},
	{"descriptor", {SCSI_STATUS_CHECK_CONDITION, 0x72, 3, 0x11, 0, false}, {FAILED(MEDIUM)}},
	{"busy", STATUS(SCSI_STATUS_BUSY), {LATER}},
	{"task set full", STATUS(SCSI_STATUS_TASK_SET_FULL), {LATER}},
	{"ACA active", STATUS(SCSI_STATUS_ACA_ACTIVE), {LATER}},
	{"conflict", STATUS(SCSI_STATUS_RESERVATION_CONFLICT), {FAILED(CONFLICT)}},
	{"task aborted", STATUS(SCSI_STATUS_TASK_ABORTED), {UNKNOWN(PATH)}},
	{"session lost", STATUS(SCSI_STATUS_CANCELLED), {UNKNOWN(PATH)}},
	{"library's error", STATUS(SCSI_STATUS_ERROR), {UNKNOWN(PATH)}},
	{"library's timeout", STATUS(SCSI_STATUS_TIMEOUT), {UNKNOWN(TIMEOUT)}},
	{"never heard of", STATUS(0x77), {UNKNOWN(PATH)}},
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(TABLE); i++) {
		struct ferry_iscsi_conclusion got = ferry_iscsi_conclude(&TABLE[i].answer);

		if (got.verdict != TABLE[i].want.verdict || got.outcome != TABLE[i].want.outcome ||
		    got.cause != TABLE[i].want.cause)
			fail_msg("%s: verdict %d outcome %d cause %d", TABLE[i].name, got.verdict,
				 got.outcome, got.cause);
	}
}

/* What a target's cache has lost it may say as NOT READY, once: nobody else is asked for it. */
static void test_sync_not_ready(void **state)
{
	static const struct {
		uint8_t asc, ascq;
		enum ferry_cause cause;
	} cases[] = {{0x08, 0x00, FERRY_CAUSE_LOST}, /* LIO's. */
		     {0x04, 0x00, FERRY_CAUSE_LOST}, {0x04, 0x01, FERRY_CAUSE_PATH},
		     {0x04, 0x03, FERRY_CAUSE_LOST}, {0x04, 0x0a, FERRY_CAUSE_PATH},
		     {0x04, 0x0b, FERRY_CAUSE_PATH}, {0x04, 0x0c, FERRY_CAUSE_PATH},
		     {0x3a, 0x01, FERRY_CAUSE_LOST}};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		struct ferry_iscsi_answer answer = {
			SCSI_STATUS_CHECK_CONDITION, 0x70, 2, cases[i].asc, cases[i].ascq, false};
		struct ferry_iscsi_conclusion got = ferry_iscsi_conclude_sync(&answer);

		assert_int_equal(got.verdict, FERRY_ISCSI_VERDICT_END);
		assert_int_equal(got.outcome, FERRY_OUTCOME_FAILED);
		assert_int_equal(got.cause, cases[i].cause);
	}
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(TABLE); i++) {
		struct ferry_iscsi_conclusion got = ferry_iscsi_conclude_sync(&TABLE[i].answer);

		assert_int_equal(got.outcome, TABLE[i].want.outcome);
		assert_int_equal(got.cause, TABLE[i].want.cause == FERRY_CAUSE_MEDIUM
						    ? FERRY_CAUSE_LOST
						    : TABLE[i].want.cause);
	}
}

/* FAILED needs proof: of everything that has no status from the device, nothing is FAILED. */
static void test_silence_proves_nothing(void **state)
{
	(void)state;
	for (int status = 0x0f000000; status < 0x0f000010; status++) {
		struct ferry_iscsi_answer answer = {.status = status};

		assert_int_equal(ferry_iscsi_conclude(&answer).outcome, FERRY_OUTCOME_UNKNOWN);
		assert_int_equal(ferry_iscsi_conclude(&answer).verdict, FERRY_ISCSI_VERDICT_END);
	}
}

static void test_every_sense_key_concludes(void **state)
{
	(void)state;
	for (unsigned int key = 0; key < 16; key++)
		for (unsigned int asc = 0; asc < 256; asc++) {
			struct ferry_iscsi_answer answer = SENSE((uint8_t)key, (uint8_t)asc, 0);
			struct ferry_iscsi_conclusion got = ferry_iscsi_conclude(&answer);

			assert_in_range(got.outcome, FERRY_OUTCOME_DONE, FERRY_OUTCOME_UNKNOWN);
			assert_int_equal(got.outcome == FERRY_OUTCOME_DONE,
					 got.cause == FERRY_CAUSE_NONE);
			if (got.outcome == FERRY_OUTCOME_DONE)
				assert_int_equal(key, SCSI_SENSE_RECOVERED_ERROR);
		}
}

static void test_describe(void **state)
{
	struct ferry_iscsi_answer answer = SENSE(5, 0x24, 0);
	char text[64];

	(void)state;
	ferry_iscsi_answer_describe(&answer, text, sizeof(text));
	assert_string_equal(text, "CHECK CONDITION 5/24/00");
	assert_true(ferry_iscsi_answer_is_unsupported(&answer));
	answer.key = 6;
	assert_true(ferry_iscsi_answer_is_unit_attention(&answer));
	assert_false(ferry_iscsi_answer_is_unsupported(&answer));
	ferry_iscsi_answer_describe(&answer, text, 4);
	assert_string_equal(text, "CHE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_sync_not_ready),
		cmocka_unit_test(test_silence_proves_nothing),
		cmocka_unit_test(test_every_sense_key_concludes),
		cmocka_unit_test(test_describe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
