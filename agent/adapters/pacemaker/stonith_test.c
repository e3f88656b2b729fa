/*
 * What Pacemaker's crm_mon prints, as it was printed by 2.1.5 on Debian 12, and what is made of it;
 * and running it, with a stand-in. The real one is asked in tests/cluster/power_test.sh.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/pacemaker/stonith.h"
#include "agent/adapters/qb/qb.h"

#define BEGIN                                                                                      \
	"<pacemaker-result api-version=\"2.25\" request=\"crm_mon --one-shot --output-as=xml "     \
	"--include=none,nodes,resources,fencing --fence-history=3 --inactive\">\n"                 \
	"  <pacemakerd sys_from=\"pacemakerd\" state=\"running\" last_updated=\"2026-11-23 "       \
	"11:05:23Z\"/>\n  <nodes>\n" NODE("n1", "1") NODE("n2", "2")                               \
		NODE("n3", "3") "  </nodes>\n"
#define NODE(name, id)                                                                             \
	"    <node name=\"" name "\" id=\"" id                                                     \
	"\" online=\"true\" standby=\"false\" standby_onfail=\"false\" maintenance=\"false\" "     \
	"pending=\"false\" unclean=\"false\" health=\"green\" feature_set=\"3.16.1\" "             \
	"shutdown=\"false\" expected_up=\"true\" is_dc=\"false\" resources_running=\"1\" "         \
	"type=\"member\"/>\n"
#define DEVICE(id, agent)                                                                          \
	"    <resource id=\"" id "\" resource_agent=\"" agent                                      \
	"\" role=\"Started\" active=\"true\" orphaned=\"false\" blocked=\"false\" "                \
	"managed=\"true\" failed=\"false\" failure_ignored=\"false\" "                             \
	"nodes_running_on=\"1\">\n      <node name=\"n1\" id=\"1\" cached=\"true\"/>\n"            \
	"    </resource>\n"
#define POWER "  <resources>\n" DEVICE("power", "stonith:fence_lab") "  </resources>\n"
#define HISTORY(events) "  <fence_history>\n" events "  </fence_history>\n"
#define PENDING                                                                                    \
	"    <fence_event action=\"reboot\" target=\"n3\" client=\"stonith_admin.53\" "            \
	"origin=\"n2\" status=\"pending\" extended-status=\"0\"/>\n"
#define EVENT(action, target, status, more)                                                        \
	"    <fence_event action=\"" action "\" target=\"" target                                  \
	"\" client=\"stonith_admin.53\" origin=\"n2\" status=\"" status "\" " more                 \
	"completed=\"2026-11-23 11:05:24Z\"/>\n"
#define DONE EVENT("reboot", "n3", "success", "delegate=\"n1\" ")
#define END "  <status code=\"0\" message=\"OK\"/>\n</pacemaker-result>\n"

enum { DONE_S = 1795431924, DEADLINE_S = 30 };

static const struct ferry_history_agents agents = {.names = {"fence_ipmilan", "fence_lab"},
						   .count = 2};
static struct ferry_power_report report;

static int parse(const char *text)
{
	/* In memory of just its size. */
	size_t length = strlen(text);
	char *copy = malloc(length + 1);
	int r;

	assert_non_null(copy);
	memcpy(copy + 1, text, length);
	r = ferry_history_parse(copy + 1, length, &agents, &report);
	free(copy);
	return r;
}

static void test_history(void **state)
{
	(void)state;
	assert_int_equal(parse(BEGIN POWER END), 0); /* Nothing was fenced. */
	assert_int_equal(report.count, 0);
	assert_true(report.cuts_power);
	assert_int_equal(parse(BEGIN POWER HISTORY(PENDING) END), 0);
	assert_int_equal(report.count, 1);
	assert_int_equal(report.fencings[0].node.v, 3);
	assert_int_equal(report.fencings[0].result, FERRY_POWER_PENDING);
	assert_int_equal(parse(BEGIN POWER HISTORY(PENDING DONE) END), 0);
	assert_int_equal(report.count, 2);
	assert_int_equal(report.fencings[1].result, FERRY_POWER_CUT);
	assert_int_equal(report.fencings[1].ended_s, DONE_S);
}

static void test_what_proves_nothing(void **state)
{
	static const char *const texts[] = {
		BEGIN POWER HISTORY(EVENT("reboot", "n3", "failed", "")) END,
		BEGIN POWER HISTORY(EVENT("on", "n3", "success", "delegate=\"n1\" ")) END,
		/* stonith_admin --confirm */
		BEGIN POWER HISTORY(EVENT("off", "n3", "success", "delegate=\"a human\" ")) END,
		BEGIN POWER HISTORY(EVENT("off", "n3", "success", "delegate=\"n3\" ")) END,
		BEGIN POWER HISTORY(EVENT("off", "n3", "success", "")) END, /* A watchdog's. */
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(texts); i++) {
		assert_int_equal(parse(texts[i]), 0);
		assert_int_equal(report.count, 1);
		assert_int_equal(report.fencings[0].result, FERRY_POWER_PROVES_NOT);
		assert_int_equal(report.fencings[0].ended_s, DONE_S);
	}
	/* Of nobody's in this cluster: nothing to tell. */
	assert_int_equal(parse(BEGIN POWER HISTORY(EVENT("reboot", "nosuch", "failed", "")) END),
			 0);
	assert_int_equal(report.count, 0);
}

static void test_devices(void **state)
{
	(void)state;
	assert_int_equal(parse(BEGIN HISTORY(DONE) END), 0); /* None: who has done it? */
	assert_false(report.cuts_power);
	assert_int_equal(parse(BEGIN POWER DEVICE("s", "stonith:fence_ferry") END), 0);
	assert_false(report.cuts_power);
	assert_int_equal(parse(BEGIN DEVICE("s", "stonith:fence_labyrinth") END), 0);
	assert_false(report.cuts_power);
	assert_int_equal(parse(BEGIN DEVICE("pg", "ocf:ferry:pool") POWER END), 0);
	assert_true(report.cuts_power);
	assert_int_equal(report.count, 0);
}

static void test_refuses(void **state)
{
	static const struct {
		const char *text;
		int error;
	} cases[] = {
		{"", -EBADMSG},
		{"crm_mon: Connection to cluster failed: Transport endpoint is not connected\n",
		 -EBADMSG},
		{BEGIN POWER HISTORY(DONE), -EBADMSG}, /* Cut off... */
		{BEGIN POWER HISTORY(DONE) "  <status code=\"0\" message=\"OK\"/>\n", -EBADMSG},
		{BEGIN POWER HISTORY(DONE) "<sta", -EBADMSG},
		{"<pacemaker-result>" POWER END, -EBADMSG}, /* ...or of no nodes. */
		{BEGIN POWER "<status code=\"102\" message=\"Not connected\"/></pacemaker-result>",
		 -EIO},
		{BEGIN POWER "<fence_history status=\"102\"/>" END, -EIO},
		{"<pacemaker-result><pacemakerd state=\"starting_daemons\"/>" END, -EIO},
		{BEGIN POWER HISTORY(EVENT("off", "n3", "resting", "")) END, -EBADMSG},
		{BEGIN POWER HISTORY("<fence_event target=\"n3\" status=\"success\"/>") END,
		 -EBADMSG},
		{BEGIN POWER HISTORY("<fence_event target=\"n3\" status=\"failed\" "
				     "completed=\"2026-11-23 11:05:24 +01:00\"/>") END,
		 -EBADMSG},
		{BEGIN POWER HISTORY("<fence_event target=\"n3\" status=\"failed\" "
				     "completed=\"2026-13-23 11:05:24Z\"/>") END,
		 -EBADMSG},
		{BEGIN "<node name=n4/>" END, -EBADMSG},
		{BEGIN "<node name=\"n4/>" END, -EBADMSG},
		{BEGIN "<!-- " END, -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++)
		if (parse(cases[i].text) != cases[i].error)
			fail_msg("case %zu: %s", i, cases[i].text);
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} cases[] = {
		{"1970-01-01 00:00:00Z", 0},	      {"1970-03-01 00:00:01Z", 5097601},
		{"2000-02-29 12:00:00Z", 951825600},  {"2024-02-29 23:59:59Z", 1709251199},
		{"2024-03-01 00:00:00Z", 1709251200}, {"2026-11-23 11:05:24.123456Z", DONE_S},
		{"2100-03-01 00:00:00Z", 4107542400},
	};
	char text[2048];

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		(void)snprintf(text, sizeof(text),
			       "%s<fence_event target=\"n2\" "
			       "status=\"failed\" completed=\"%s\"/>%s",
			       BEGIN, cases[i].text, END);
		assert_int_equal(parse(text), 0);
		assert_true(report.fencings[0].ended_s == cases[i].seconds);
	}
}

static void test_bounds(void **state)
{
	size_t size = sizeof(BEGIN) + sizeof(END) + 600 * sizeof(DONE);
	char *text = calloc(1, size);
	char *end = text;

	(void)state;
	assert_non_null(text);
	end = stpcpy(end, BEGIN);
	for (int i = 0; i < FERRY_POWER_FENCINGS_MAX; i++)
		end = stpcpy(end, DONE);
	(void)stpcpy(end, END);
	assert_int_equal(parse(text), 0);
	assert_int_equal(report.count, FERRY_POWER_FENCINGS_MAX);
	(void)stpcpy(stpcpy(end, DONE), END);
	assert_int_equal(parse(text), -E2BIG);
	free(text);
}

/* ---- Running it. ---- */

static uint32_t not_yet; /* So often a child that was killed hangs in the kernel. */

pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	assert_true(options & WNOHANG); /* The cluster's thread waits for nobody. */
	if (not_yet == 0)
		return __real_waitpid(pid, status, options);
	not_yet--;
	return 0;
}

static char directory[64];
static char program[96];
static struct ferry_qb_loop *loop;
static struct ferry_stonith *stonith;
static uint32_t answers, reports;
static char said[512];

static void file_write(const char *name, const char *text, mode_t mode)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void on_report(struct ferry_power *power, const struct ferry_power_report *got,
		      const char *why)
{
	(void)power;
	answers++;
	reports += got != NULL;
	assert_true((got == NULL) == (why != NULL));
	(void)snprintf(said, sizeof(said), "%s", why ? why : "");
	if (got)
		report = *got;
	ferry_qb_loop_stop(loop);
}

static void answer_get(void)
{
	ferry_power_look(ferry_stonith_power(stonith));
	assert_int_equal(answers, 0);
	ferry_qb_loop_run(loop);
	assert_int_equal(answers, 1);
	answers = 0;
}

static void look(void)
{
	answer_get();
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* No child is left. */
}

static int setup(void **state)
{
	struct ferry_stonith_config config = {
		.program = program, .deadline_ns = 500 * FERRY_NS_PER_MS, .agents = agents};
	char script[256];

	(void)state;
	alarm(DEADLINE_S);
	not_yet = 0;
	answers = reports = 0;
	(void)snprintf(directory, sizeof(directory), "/tmp/ferry-stonith-XXXXXX");
	assert_non_null(mkdtemp(directory));
	(void)snprintf(program, sizeof(program), "%s/crm_mon", directory);
	(void)snprintf(script, sizeof(script),
		       "#!/bin/sh\ncd %s || exit 9\n[ $TZ = UTC ] || exit 8\necho \"$*\" >calls\n"
		       "cat output\n[ ! -e hang ] || exec tail -f /dev/null\n",
		       directory);
	file_write("crm_mon", script, 0700);
	assert_int_equal(ferry_qb_loop_open(&loop, NULL), 0);
	config.loop = ferry_qb_loop_port(loop);
	assert_int_equal(ferry_stonith_open(&config, &stonith, NULL), 0);
	ferry_stonith_power(stonith)->on_report = on_report;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"crm_mon", "calls", "hang", "output"};

	(void)state;
	ferry_stonith_close(stonith);
	stonith = NULL;
	ferry_qb_loop_close(loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		(void)unlink(path);
	}
	alarm(0);
	return rmdir(directory);
}

static void test_asks(void **state)
{
	(void)state;
	file_write("output", BEGIN POWER HISTORY(DONE) END, 0600);
	look();
	assert_int_equal(reports, 1);
	assert_int_equal(report.count, 1);
	assert_true(report.cuts_power);
	assert_true(report.asked_s > DONE_S - 86400 && report.answered_s >= report.asked_s);
	look();
	assert_int_equal(reports, 2);
}

static void test_no_answer(void **state)
{
	(void)state;
	file_write("output", BEGIN POWER, 0600);
	look();
	assert_non_null(strstr(said, program));
	file_write("output", BEGIN POWER END, 0600);
	file_write("hang", "", 0600); /* It has said it all, and does not end. */
	look();
	assert_non_null(strstr(said, "no history"));
	assert_int_equal(reports, 0);
}

static void stop_run(struct ferry_timer *timer)
{
	(void)timer;
	ferry_qb_loop_stop(loop);
}

/* It was killed, and nobody can reap it: the loop goes on, and the next one waits for its end. */
static void test_does_not_end(void **state)
{
	struct ferry_timer stop = {.run = stop_run};

	(void)state;
	file_write("output", BEGIN POWER END, 0600);
	file_write("hang", "", 0600);
	not_yet = UINT32_MAX;
	answer_get();
	assert_non_null(strstr(said, "does not end"));
	answer_get();
	assert_non_null(strstr(said, "the last one has not ended"));
	assert_int_equal(reports, 0);
	not_yet = 0; /* It ends in the moment in which it is waited for. */
	answer_get();
	assert_non_null(strstr(said, "the last one has not ended"));
	ferry_timer_start_in(ferry_qb_loop_port(loop), &stop, 20 * FERRY_NS_PER_MS);
	ferry_qb_loop_run(loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(answers, 0);
	look();
	assert_non_null(strstr(said, "no history"));
}

static void test_too_much(void **state)
{
	size_t size = 1100 * 1024;
	char *text = malloc(size + 1);

	(void)state;
	assert_non_null(text);
	memset(text, ' ', size);
	text[size] = '\0';
	file_write("output", text, 0600);
	free(text);
	look();
	assert_int_equal(reports, 0);
}

static void test_cannot_be_run(void **state)
{
	struct ferry_stonith_config config = {.loop = ferry_qb_loop_port(loop),
					      .program = "/nonexistent/crm_mon"};
	struct ferry_stonith *other = NULL;
	struct ferry_error error = {0};

	(void)state;
	assert_int_equal(ferry_stonith_open(&config, &other, &error), -ENOENT);
	assert_non_null(strstr(error.message, "is pacemaker installed?"));
	assert_int_equal(unlink(program), 0);
	look();
	assert_non_null(strstr(said, "cannot be run"));
}

static void test_closed_while_it_runs(void **state)
{
	(void)state;
	file_write("output", BEGIN, 0600);
	file_write("hang", "", 0600);
	ferry_power_look(ferry_stonith_power(stonith));
}

int main(void)
{
#define RUN(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_what_proves_nothing),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_bounds),
		RUN(test_asks),
		RUN(test_no_answer),
		RUN(test_does_not_end),
		RUN(test_too_much),
		RUN(test_cannot_be_run),
		RUN(test_closed_while_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
