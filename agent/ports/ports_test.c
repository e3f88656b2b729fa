/* ports_test.c - what the ports themselves compute: luns' identities, events' texts, timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/prng.h"
#include "agent/ports/auth.h"
#include "agent/ports/events.h"
#include "agent/ports/identity.h"
#include "agent/ports/io.h"
#include "agent/ports/timers.h"

static struct ferry_lun_identity lun(const char *wwid, uint64_t size_blocks, uint32_t block_bytes)
{
	struct ferry_lun_identity identity = {.size_blocks = size_blocks,
					      .block_bytes = block_bytes};

	assert_true(strlen(wwid) < sizeof(identity.wwid));
	memcpy(identity.wwid, wwid, strlen(wwid));
	ferry_lun_identity_seal(&identity);
	return identity;
}

/* Two paths lead to one lun only if name, size and block size are equal. */
static void test_identity(void **state)
{
	struct ferry_lun_identity base = lun("naa.6001405", 2048, 512);
	struct ferry_lun_identity same = lun("naa.6001405", 2048, 512);
	struct ferry_lun_identity named = lun("naa.6001406", 2048, 512);
	struct ferry_lun_identity sized = lun("naa.6001405", 2049, 512);
	struct ferry_lun_identity blocked = lun("naa.6001405", 2048, 4096);
	char longest[sizeof(base.wwid)];

	(void)state;
	assert_false(ferry_uuid_is_none(&base.uuid));
	assert_true(ferry_uuid_equal(&base.uuid, &same.uuid));
	assert_false(ferry_uuid_equal(&base.uuid, &named.uuid));
	assert_false(ferry_uuid_equal(&base.uuid, &sized.uuid));
	assert_false(ferry_uuid_equal(&base.uuid, &blocked.uuid));

	memset(longest, 'f', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	same = lun(longest, UINT64_MAX, 4096);
	named = lun(longest, UINT64_MAX - 1, 4096); /* The name did not push the size out. */
	assert_false(ferry_uuid_equal(&same.uuid, &named.uuid));
}

static struct ferry_event last;
static int emitted;

static void keep(struct ferry_events *events, const struct ferry_event *event)
{
	(void)events;
	last = *event;
	emitted++;
}

static void test_event(void **state)
{
	struct ferry_events events = {.emit = keep};
	struct ferry_event event = {
		.kind = FERRY_EVENT_HOLD, .severity = FERRY_SEVERITY_WARNING, .value = 5};

	(void)state;
	emitted = 0;
	ferry_event_emit(&events, event, "no path for %d s", 5);
	assert_int_equal(emitted, 1);
	assert_int_equal(last.kind, FERRY_EVENT_HOLD);
	assert_string_equal(last.text, "no path for 5 s");
	ferry_event_emit(NULL, event, "nobody listens");
	assert_int_equal(emitted, 1);
}

static void test_proof_and_ops(void **state)
{
	uint8_t a[FERRY_PROOF_BYTES] = {0};
	uint8_t b[FERRY_PROOF_BYTES] = {0};

	(void)state;
	assert_true(ferry_proof_equal(a, b));
	for (size_t i = 0; i < sizeof(a); i++) {
		b[i] = 0x80;
		assert_false(ferry_proof_equal(a, b));
		b[i] = 0;
	}
	assert_true(ferry_op_changes_blocks(FERRY_OP_WRITE));
	assert_true(ferry_op_changes_blocks(FERRY_OP_DISCARD));
	assert_true(ferry_op_changes_blocks(FERRY_OP_WRITE_ZEROES));
	assert_false(ferry_op_changes_blocks(FERRY_OP_READ));
	assert_false(ferry_op_changes_blocks(FERRY_OP_FLUSH));
	assert_true(ferry_op_has_data(FERRY_OP_READ) && ferry_op_has_data(FERRY_OP_WRITE));
	assert_false(ferry_op_has_data(FERRY_OP_DISCARD));
}

enum { TIMERS = 40, TIMER_STEPS = 20000 };

/* The one that is due first, found the slow way. */
static struct ferry_timer *first_of(struct ferry_timer *timers)
{
	struct ferry_timer *first = NULL;

	for (size_t i = 0; i < TIMERS; i++) {
		struct ferry_timer *timer = &timers[i];

		if (!ferry_timer_is_started(timer))
			continue;
		if (!first || timer->deadline_ns < first->deadline_ns ||
		    (timer->deadline_ns == first->deadline_ns && timer->sequence < first->sequence))
			first = timer;
	}
	return first;
}

static void test_timers_order(void **state)
{
	struct ferry_timer timers[TIMERS] = {0};
	struct ferry_timer *heap[TIMERS + 1];
	struct ferry_prng prng = {.state = 7};
	struct ferry_timers started;
	uint32_t ran = 0;

	(void)state;
	ferry_timers_init(&started, heap, TIMERS + 1);
	assert_null(ferry_timers_first(&started));
	for (uint32_t i = 0; i < TIMER_STEPS; i++) {
		struct ferry_timer *timer = &timers[ferry_prng_below(&prng, TIMERS)];
		struct ferry_timer *first = ferry_timers_first(&started);

		assert_ptr_equal(first, first_of(timers));
		switch (ferry_prng_below(&prng, 4)) {
		case 0:
			ferry_timers_stop(&started, timer);
			assert_false(ferry_timer_is_started(timer));
			break;
		case 1:
			if (first)
				ferry_timers_stop(&started, first);
			ran += first != NULL;
			break;
		default: /* Few deadlines, so that many are equal. */
			ferry_timers_start(&started, timer, ferry_prng_below(&prng, 16));
			assert_true(ferry_timer_is_started(timer));
			break;
		}
	}
	assert_true(ran > TIMER_STEPS / 8);
}

/* What this build does not know has a name, too; an array's end is not read beyond. */
static void test_names_of_the_unknown(void **state)
{
	(void)state;
	assert_string_equal(ferry_severity_name(FERRY_SEVERITY_ERROR), "error");
	assert_string_equal(ferry_event_kind_name(FERRY_EVENT_ADMIN), "admin");
	for (uint32_t i = 1; i < 5; i++) {
		enum ferry_severity severity = (enum ferry_severity)(FERRY_SEVERITY_ERROR + i);
		enum ferry_event_kind kind = (enum ferry_event_kind)(FERRY_EVENT_ADMIN + i);

		assert_string_equal(ferry_severity_name(severity), "other");
		assert_string_equal(ferry_event_kind_name(kind), "other");
	}
	assert_string_equal(ferry_severity_name(0), "other");
	assert_string_equal(ferry_event_kind_name(0), "other");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_names_of_the_unknown),
		cmocka_unit_test(test_proof_and_ops),
		cmocka_unit_test(test_timers_order),
	};

	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
