/* spsc_test.c - the ring between two threads; run it under ThreadSanitizer too (preset tsan). */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "agent/base/spsc.h"

enum { SLOTS = 8, MESSAGES = 200 * 1000 };

struct message {
	uint64_t number;
	uint64_t filler[3];
	uint32_t crc; /* Of all that is before it: a torn message is seen. */
	uint32_t unused;
};

struct rig {
	_Alignas(64) uint8_t memory[SLOTS * sizeof(struct message) + 64];
	struct ferry_region region;
	struct ferry_spsc ring;
};

static void rig_open(struct rig *rig)
{
	ferry_region_init(&rig->region, rig->memory, sizeof(rig->memory));
	assert_int_equal(ferry_spsc_init(&rig->ring, &rig->region, SLOTS, sizeof(struct message)),
			 0);
}

static void test_bounds(void **state)
{
	struct message message = {.number = 0};
	struct ferry_spsc unopened;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(ferry_spsc_init(&unopened, &rig.region, 1024, 64), -ENOMEM);
	assert_int_equal(ferry_spsc_pop(&rig.ring, &message), -EAGAIN);
	for (uint64_t i = 0; i < SLOTS; i++) {
		message.number = i;
		assert_int_equal(ferry_spsc_push(&rig.ring, &message), 0);
	}
	message.number = 99;
	assert_int_equal(ferry_spsc_push(&rig.ring, &message), -EAGAIN);
	for (uint64_t i = 0; i < SLOTS; i++) {
		assert_int_equal(ferry_spsc_pop(&rig.ring, &message), 0);
		assert_int_equal(message.number, i);
	}
	assert_int_equal(ferry_spsc_pop(&rig.ring, &message), -EAGAIN);
}

/* The cursors count for ever and wrap at 2^32. */
static void test_wrap(void **state)
{
	struct message message = {.number = 0};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	atomic_store(&rig.ring.head, UINT32_MAX - 2);
	atomic_store(&rig.ring.tail, UINT32_MAX - 2);
	for (uint64_t i = 0; i < SLOTS; i++) {
		message.number = i;
		assert_int_equal(ferry_spsc_push(&rig.ring, &message), 0);
	}
	assert_int_equal(ferry_spsc_push(&rig.ring, &message), -EAGAIN);
	for (uint64_t i = 0; i < SLOTS; i++) {
		assert_int_equal(ferry_spsc_pop(&rig.ring, &message), 0);
		assert_int_equal(message.number, i);
	}
}

static void *sender(void *context)
{
	struct ferry_spsc *ring = context;

	for (uint64_t i = 0; i < MESSAGES; i++) {
		struct message message = {.number = i, .filler = {i * 3, i * 5, i * 7}};

		message.crc = ferry_crc32c(0, &message, offsetof(struct message, crc));
		while (ferry_spsc_push(ring, &message) == -EAGAIN)
			sched_yield();
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	struct message message;
	pthread_t thread;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(pthread_create(&thread, NULL, sender, &rig.ring), 0);
	for (uint64_t i = 0; i < MESSAGES; i++) {
		while (ferry_spsc_pop(&rig.ring, &message) == -EAGAIN)
			sched_yield();
		assert_int_equal(message.number, i);
		assert_int_equal(message.crc,
				 ferry_crc32c(0, &message, offsetof(struct message, crc)));
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(ferry_spsc_pop(&rig.ring, &message), -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests_name("spsc", tests, NULL, NULL);
}
