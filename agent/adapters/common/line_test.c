/* line_test.c - what a line is, and what counts as none. */
#include "agent/adapters/common/line.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void test_lines(void **state)
{
	static const struct {
		const char *text;
		const char *line; /* NULL: none. */
	} CASES[] = {
		{"naa.6001\n", "naa.6001"},
		{"1", "1"},
		{"a\nb\n", "a"},
		{"", NULL},
		{"\nb\n", NULL},
		{"longer than there is room\n", "longer "},
	};
	char path[] = "/tmp/ferry-line-test.XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(CASES); i++) {
		size_t length = strlen(CASES[i].text);
		char line[8] = "before";
		char longer[32] = "";
		bool is_short = i + 1 == FERRY_ARRAY_COUNT(CASES);

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, CASES[i].text, length, 0), length);
		if (CASES[i].line && !is_short) {
			assert_int_equal(
				ferry_line_read(longer, sizeof(longer), "%s%s", "/tmp/", path + 5),
				0);
			assert_string_equal(longer, CASES[i].line);
		} else if (CASES[i].line) {
			assert_int_equal(ferry_line_read(line, sizeof(line), "%s", path), 0);
			assert_string_equal(line, CASES[i].line);
		} else {
			assert_int_equal(ferry_line_read(line, sizeof(line), "%s", path), -ENOENT);
			assert_string_equal(line, "before");
		}
	}
	(void)close(fd);
	assert_int_equal(unlink(path), 0);
}

static void test_no_file(void **state)
{
	char line[8] = "before";
	static char name[8192];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	assert_int_equal(ferry_line_read(line, sizeof(line), "/nonexistent/%d", 1), -ENOENT);
	assert_int_equal(ferry_line_read(line, sizeof(line), "/%s", name), -ENOENT);
	assert_int_equal(ferry_line_read(line, sizeof(line), "/tmp"), -ENOENT);
	assert_string_equal(line, "before");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
