/* Commands to drivers, tried on a UDP socket, which knows some as well (Linux 6.7 or later). */
#include "agent/adapters/uring/command.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { HOW_MUCH_TO_READ = 0 }; /* SOCKET_URING_OP_SIOCINQ */

static struct {
	struct ferry_uring_loop *uring;
	struct ferry_uring_commands *commands;
	struct ferry_timer guard;
	int socket;
	uint32_t runs, wanted;
	int result;
} at;

static void guard_run(struct ferry_timer *timer)
{
	(void)timer;
	fail_msg("the test did not end in time");
}

static int setup(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	(void)state;
	memset(&at, 0, sizeof(at));
	assert_int_equal(ferry_uring_loop_open(&at.uring, NULL), 0);
	assert_int_equal(ferry_uring_commands_open(at.uring, &at.commands, NULL), 0);
	at.socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(at.socket >= 0);
	assert_int_equal(bind(at.socket, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(at.socket, (struct sockaddr *)&address, &length), 0);
	assert_int_equal(sendto(at.socket, "seven b", 7, 0, (struct sockaddr *)&address, length),
			 7);
	at.guard.run = guard_run;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	at.commands = ferry_uring_commands_close(at.commands);
	at.uring = ferry_uring_loop_close(at.uring);
	assert_int_equal(close(at.socket), 0);
	return 0;
}

static void command_run(struct ferry_command *command, int result)
{
	(void)command;
	at.result = result;
	if (++at.runs == at.wanted)
		ferry_uring_loop_stop(at.uring);
}

static void until(uint32_t runs)
{
	struct ferry_loop *loop = ferry_uring_loop_of(at.uring);

	at.wanted = runs;
	ferry_timer_start_in(loop, &at.guard, 20 * FERRY_NS_PER_S);
	assert_int_equal(ferry_uring_loop_run(at.uring), 0);
	ferry_timer_stop(loop, &at.guard);
	assert_int_equal(at.runs, runs);
}

/* Whether this kernel's sockets know the command; else there is nothing to try it on. */
static bool is_known(void)
{
	return at.result != -EOPNOTSUPP && at.result != -EINVAL;
}

static void test_both_ways(void **state)
{
	struct ferry_commands *port = ferry_uring_commands_of(at.commands);
	struct ferry_command command = {
		.fd = at.socket, .code = HOW_MUCH_TO_READ, .run = command_run};

	(void)state;
	assert_int_equal(port->ops->reserve(port, 1), 0);
	ferry_command_submit(port, &command);
	assert_int_equal(at.runs, 0); /* Never from inside. */
	until(1);
	if (!is_known())
		skip();
	assert_int_equal(at.result, 7);
	at.result = 0;
	assert_int_equal(ferry_command_control(port, &command), 0);
	until(2);
	assert_int_equal(at.result, 7);
	port->ops->unreserve(port, 1);
}

static void test_many_at_once(void **state)
{
	static struct ferry_command commands[FERRY_URING_COMMANDS_MAX];
	struct ferry_commands *port = ferry_uring_commands_of(at.commands);

	(void)state;
	assert_int_equal(port->ops->reserve(port, FERRY_URING_COMMANDS_MAX + 1), -ENOSPC);
	assert_int_equal(port->ops->reserve(port, FERRY_URING_COMMANDS_MAX), 0);
	assert_int_equal(port->ops->reserve(port, 1), -ENOSPC);
	for (size_t i = 0; i < FERRY_URING_COMMANDS_MAX; i++) {
		commands[i] = (struct ferry_command){
			.fd = at.socket, .code = HOW_MUCH_TO_READ, .run = command_run};
		ferry_command_submit(port, &commands[i]);
	}
	until(FERRY_URING_COMMANDS_MAX);
	at.runs = 0;
	for (size_t i = 0; i < FERRY_COMMAND_CONTROLS_MAX; i++)
		assert_int_equal(ferry_command_control(port, &commands[i]), 0);
	assert_int_equal(ferry_command_control(port, &commands[FERRY_COMMAND_CONTROLS_MAX]),
			 -EBUSY);
	until(FERRY_COMMAND_CONTROLS_MAX);
	port->ops->unreserve(port, FERRY_URING_COMMANDS_MAX);
}

/* What is under way when the ring ends is nobody's any more. */
static void test_abandoned(void **state)
{
	static struct ferry_command command;
	struct ferry_commands *port = ferry_uring_commands_of(at.commands);

	(void)state;
	command = (struct ferry_command){
		.fd = at.socket, .code = HOW_MUCH_TO_READ, .run = command_run};
	assert_int_equal(port->ops->reserve(port, 4), 0);
	ferry_command_submit(port, &command);
	at.commands = ferry_uring_commands_close(at.commands);
	assert_int_equal(at.runs, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways),
		TEST(test_many_at_once),
		TEST(test_abandoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
