/*
 * The group port on a real corosync of one node; corosync_test.sh makes the namespaces, in which
 * we are root and alone.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/corosync/corosync.h"
#include "agent/adapters/qb/qb.h"

enum { DEADLINE_S = 40, MESSAGES = 3000 };

extern char **environ;

static struct ferry_qb_loop *loop;
static struct ferry_corosync *corosync;
static struct ferry_group *group;
static struct ferry_timer pump_timer;
static pid_t daemon_pid;
static uint32_t members_count, members_news, quorum_news, messages, sent, again, losses;
static uint64_t next_number;
static const char *stop_on;

static void happened(const char *what)
{
	if (stop_on && strcmp(stop_on, what) == 0)
		ferry_qb_loop_stop(loop);
}

static void loop_until(const char *what)
{
	stop_on = what;
	ferry_qb_loop_run(loop);
	stop_on = NULL;
}

static void on_members(struct ferry_group *from, const struct ferry_members *members)
{
	assert_ptr_equal(from, group);
	members_count = members->count;
	members_news++;
	if (members->count > 0)
		assert_int_equal(members->nodes[0].v, 7);
	happened("members");
}

static void on_quorum(struct ferry_group *from)
{
	assert_ptr_equal(from, group);
	quorum_news++;
}

static void on_message(struct ferry_group *from, struct ferry_node node, const void *bytes,
		       size_t length_bytes)
{
	uint64_t number;

	assert_ptr_equal(from, group);
	assert_int_equal(node.v, 7);
	assert_true(members_news > 0); /* Members first. */
	assert_int_equal(length_bytes, FERRY_GROUP_MESSAGE_BYTES_MAX);
	memcpy(&number, bytes, sizeof(number));
	assert_int_equal(number, next_number);
	next_number++;
	if (++messages == MESSAGES)
		happened("messages");
}

static void on_lost(struct ferry_group *from, const char *why)
{
	assert_ptr_equal(from, group);
	assert_non_null(strstr(why, "corosync is gone"));
	assert_false(group->is_quorate);
	losses++;
	happened("lost");
}

static void daemon_start(void)
{
	char *const arguments[] = {(char *)(uintptr_t) "corosync", (char *)(uintptr_t) "-f", NULL};
	struct ferry_corosync *probe = NULL;
	struct ferry_error error = {0};
	int r;

	assert_int_equal(posix_spawnp(&daemon_pid, "corosync", NULL, NULL, arguments, environ), 0);
	do { /* alarm() is the deadline. */
		r = ferry_corosync_open(ferry_qb_loop_port(loop), &probe, &error);
	} while (r == -ECONNREFUSED && usleep(20000) == 0);
	if (r < 0)
		fail_msg("%s", error.message);
	ferry_corosync_close(probe);
}

static void daemon_kill(void)
{
	assert_int_equal(kill(daemon_pid, SIGKILL), 0);
	assert_int_equal(waitpid(daemon_pid, NULL, 0), daemon_pid);
	daemon_pid = 0;
}

static void test_corosync_is_not_running(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	assert_int_equal(ferry_corosync_open(ferry_qb_loop_port(loop), &corosync, &error),
			 -ECONNREFUSED);
	assert_non_null(strstr(error.message, "is corosync running?"));
	assert_null(corosync);
}

/* Connected to the daemon; it has not joined yet. */
static void agent_open(void)
{
	struct ferry_error error = {0};

	if (ferry_corosync_open(ferry_qb_loop_port(loop), &corosync, &error) < 0)
		fail_msg("%s", error.message);
	group = ferry_corosync_group(corosync);
	group->on_members = on_members;
	group->on_quorum = on_quorum;
	group->on_message = on_message;
	group->on_lost = on_lost;
}

static void test_opens_and_knows_the_configuration(void **state)
{
	struct ferry_node nodes[FERRY_NODES_MAX];

	(void)state;
	daemon_start();
	agent_open();
	assert_int_equal(group->self.v, 7);
	assert_int_equal(group->nodes.count, 1);
	assert_true(group->is_quorate);
	assert_true(group->ring != 0);
	assert_string_equal(ferry_corosync_cluster(corosync), "alone");
	assert_int_equal(ferry_corosync_nodes(corosync, nodes), 1);
	assert_string_equal(ferry_corosync_node_address(corosync, nodes[0]), "127.0.0.1");
	assert_string_equal(ferry_corosync_node_name(corosync, nodes[0]), "first");
	assert_null(ferry_corosync_node_name(corosync, (struct ferry_node){8}));
	assert_int_equal(group->ops->multicast(group, "x", 1), -ENOTCONN);
}

static void test_joins(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	if (ferry_corosync_join(corosync, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(members_news, 0); /* Nothing runs from inside of join. */
	loop_until("members");
	assert_int_equal(members_count, 1);
	assert_int_equal(quorum_news, 1);
}

static void pump(struct ferry_timer *timer)
{
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES_MAX] = {0};
	uint64_t number = sent;
	int r = 0;

	while (sent < MESSAGES) {
		number = sent;
		memcpy(bytes, &number, sizeof(number));
		r = group->ops->multicast(group, bytes, sizeof(bytes));
		if (r < 0)
			break;
		sent++;
	}
	assert_true(r == 0 || r == -EAGAIN);
	again += r == -EAGAIN;
	if (sent < MESSAGES)
		ferry_timer_start_in(ferry_qb_loop_port(loop), timer, FERRY_NS_PER_MS);
}

static void test_own_messages_come_back_in_order(void **state)
{
	uint64_t begin_ns = ferry_loop_now_ns(ferry_qb_loop_port(loop));

	(void)state;
	pump_timer.run = pump;
	ferry_timer_start_in(ferry_qb_loop_port(loop), &pump_timer, 0);
	loop_until("messages");
	print_message("%d messages of %d bytes in %" PRIu64 " ms, told to wait %" PRIu32 " times\n",
		      MESSAGES, FERRY_GROUP_MESSAGE_BYTES_MAX,
		      (ferry_loop_now_ns(ferry_qb_loop_port(loop)) - begin_ns) / FERRY_NS_PER_MS,
		      again);
	assert_int_equal(next_number, MESSAGES);
}

/* Another process of this node: it must be refused, and we not disturbed. */
static void test_second_agent_is_refused(void **state)
{
	uint32_t news = members_news;
	int status = 0;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct ferry_corosync *second = NULL;
		struct ferry_qb_loop *own = NULL;
		struct ferry_error error = {0};

		alarm(DEADLINE_S);
		if (ferry_qb_loop_open(&own, &error) < 0 ||
		    ferry_corosync_open(ferry_qb_loop_port(own), &second, &error) < 0)
			_exit(1);
		if (ferry_corosync_join(second, &error) != -EBUSY)
			_exit(2);
		if (!strstr(error.message, "another agent runs on this node (node 7"))
			_exit(3);
		ferry_corosync_close(second);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	messages = sent = 0; /* What it left behind is delivered before these. */
	next_number = 0;
	ferry_timer_start_in(ferry_qb_loop_port(loop), &pump_timer, 0);
	loop_until("messages");
	assert_int_equal(members_news, news);
	assert_int_equal(members_count, 1);
}

static void test_corosync_dies(void **state)
{
	(void)state;
	daemon_kill();
	loop_until("lost");
	assert_int_equal(losses, 1);
	assert_int_equal(group->ops->multicast(group, "x", 1), -ENOTCONN);
	ferry_corosync_close(corosync);
	corosync = NULL;
}

/* What an agent that is started anew does. */
static void test_comes_back(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	daemon_start();
	agent_open();
	if (ferry_corosync_join(corosync, &error) < 0)
		fail_msg("%s", error.message);
	loop_until("members");
	/* Dying, this time, while we send. */
	daemon_kill();
	while (group->ops->multicast(group, "x", 1) != -ENOTCONN)
		usleep(1000);
	loop_until("lost");
	assert_int_equal(losses, 2);
	ferry_corosync_close(corosync);
	corosync = NULL;
}

static int setup(void **state)
{
	(void)state;
	alarm(DEADLINE_S * 2);
	return ferry_qb_loop_open(&loop, NULL);
}

static int teardown(void **state)
{
	(void)state;
	ferry_corosync_close(corosync);
	ferry_qb_loop_close(loop);
	if (daemon_pid)
		daemon_kill();
	return 0;
}

/* By itself it would start a corosync on this very machine. */
static bool is_alone(int argc, char **argv)
{
	return argc == 2 && strcmp(argv[1], "alone") == 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corosync_is_not_running),
		cmocka_unit_test(test_opens_and_knows_the_configuration),
		cmocka_unit_test(test_joins),
		cmocka_unit_test(test_own_messages_come_back_in_order),
		cmocka_unit_test(test_second_agent_is_refused),
		cmocka_unit_test(test_corosync_dies),
		cmocka_unit_test(test_comes_back),
	};

	if (!is_alone(argc, argv)) {
		printf("skipped: run corosync_test.sh, which gives it namespaces of its own\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
