/* base_test.c - assertions and small types; error texts; lists; random numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/base.h"
#include "agent/base/error.h"
#include "agent/base/list.h"
#include "agent/base/prng.h"

static void test_assert_ends_the_process(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(STDERR_FILENO); /* The message is meant for a person. */
		ferry_assert(pid != 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_small_types(void **state)
{
	struct ferry_uuid uuid = {.bytes = {0}};
	struct ferry_uuid other = {.bytes = {[15] = 1}};
	int value = 7;
	int *pointer = &value;
	int *taken;

	(void)state;
	assert_true(ferry_uuid_is_none(&uuid));
	assert_false(ferry_uuid_is_none(&other));
	assert_false(ferry_uuid_equal(&uuid, &other));
	assert_int_equal(ferry_min_u64(3, UINT64_MAX), 3);
	assert_true(ferry_max_u64(3, UINT64_MAX) == UINT64_MAX);
	taken = TAKE_PTR(pointer);
	assert_null(pointer);
	assert_ptr_equal(taken, &value);
}

static void test_error_text(void **state)
{
	struct ferry_error error = {0};
	char longer[FERRY_ERROR_MESSAGE_MAX * 2];

	(void)state;
	assert_int_equal(ferry_error_set(&error, -EINVAL, "line %d: no such key", 3), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	assert_string_equal(error.message, "line 3: no such key");
	assert_int_equal(ferry_error_set(NULL, -EIO, "nobody listens"), -EIO);

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(ferry_error_set(&error, -EIO, "%s", longer), -EIO);
	assert_int_equal(strlen(error.message), FERRY_ERROR_MESSAGE_MAX - 1);
}

struct item {
	int number;
	struct ferry_list link;
};

static int number_of(struct ferry_list *link)
{
	ferry_assert(link);
	return ferry_list_entry(link, struct item, link)->number;
}

static void test_list_order(void **state)
{
	struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
	struct ferry_list head;
	int expected = 0;

	(void)state;
	ferry_list_init(&head);
	assert_true(ferry_list_is_empty(&head));
	assert_null(ferry_list_pop(&head));
	for (int i = 1; i < 4; i++)
		ferry_list_append(&head, &items[i].link);
	ferry_list_prepend(&head, &items[0].link);
	ferry_list_foreach (link, &head)
		assert_int_equal(number_of(link), expected++);
	assert_int_equal(expected, 4);

	ferry_list_foreach_safe (link, &head)
		if (number_of(link) % 2 == 0)
			ferry_list_remove(link);
	assert_false(ferry_list_is_linked(&items[0].link));
	assert_true(ferry_list_is_linked(&items[1].link));
	ferry_list_remove(&items[0].link); /* Removing twice does no harm. */
	assert_int_equal(number_of(ferry_list_pop(&head)), 1);
	assert_int_equal(number_of(ferry_list_pop(&head)), 3);
	assert_true(ferry_list_is_empty(&head));
}

static void test_list_move_all(void **state)
{
	struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
	struct ferry_list from;
	struct ferry_list to;

	(void)state;
	ferry_list_init(&from);
	ferry_list_init(&to);
	ferry_list_move_all(&to, &from);
	assert_true(ferry_list_is_empty(&to));
	ferry_list_append(&to, &items[0].link);
	ferry_list_append(&from, &items[1].link);
	ferry_list_append(&from, &items[2].link);
	ferry_list_move_all(&to, &from);
	assert_true(ferry_list_is_empty(&from));
	for (int i = 0; i < 3; i++)
		assert_int_equal(number_of(ferry_list_pop(&to)), i);
	assert_null(ferry_list_pop(&to));
}

/* The reference implementation's first numbers for the seed 1234567. */
static void test_prng_reference(void **state)
{
	static const uint64_t expected[] = {
		UINT64_C(6457827717110365317),	UINT64_C(3203168211198807973),
		UINT64_C(9817491932198370423),	UINT64_C(4593380528125082431),
		UINT64_C(16408922859458223821),
	};
	struct ferry_prng prng = {.state = 1234567};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(expected); i++)
		assert_true(ferry_prng_next(&prng) == expected[i]);
	for (int i = 0; i < 1000; i++)
		assert_true(ferry_prng_below(&prng, 7) < 7);
	assert_int_equal(ferry_prng_below(&prng, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_assert_ends_the_process),
		cmocka_unit_test(test_small_types),
		cmocka_unit_test(test_error_text),
		cmocka_unit_test(test_list_order),
		cmocka_unit_test(test_list_move_all),
		cmocka_unit_test(test_prng_reference),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
