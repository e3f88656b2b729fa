/* Clients, exports and the server itself come and go; where it listens. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/adapters/nbd/client_stand.h"

static void test_client_gone(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t data[64 * 1024];
	int fd;

	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	fd = client_go(fixture, "demo", false);
	for (uint32_t i = 0; i < 4; i++) {
		request_say(fd, FERRY_NBD_CMD_READ, 0, i, 0, sizeof(data));
		request_say(fd, FERRY_NBD_CMD_WRITE, 0, i, 0, sizeof(data));
		say(fd, data, sizeof(data));
		request_say(fd, FERRY_NBD_CMD_TRIM, FERRY_NBD_CMD_FUA, i, 0, VOLUME_BYTES);
	}
	request_say(fd, FERRY_NBD_CMD_WRITE, 0, 9, 0, sizeof(data));
	say(fd, data, 1000); /* And not the rest. */
	UNTIL(counters(fixture).requests_in_flight == 12);
	close(fd);
	/* The memory is still the volume's, whoever has gone. */
	assert_true(fixture->arena.chunks_count - chunks_free(fixture) >= 4);
	behave(fixture, WELL);
	UNTIL(counters(fixture).requests_in_flight == 0 && counters(fixture).connections == 0);
	assert_int_equal(chunks_free(fixture), fixture->arena.chunks_count);
	/* The rest of the long trims, if any, was for nobody; the server serves on. */
	fd = client_go(fixture, "demo", false);
	read_expect(fd, 0, BLOCK, 0);
	close(fd);
}

static void test_connections_max(void **state)
{
	struct fixture *fixture = *state;
	int a, b;

	fixture->config.connections_max = 2;
	server_start(fixture);
	a = client_go(fixture, "demo", false);
	b = client_go(fixture, "demo", false);
	hear_end(client_connect(fixture));
	assert_int_equal(counters(fixture).connections_refused, 1);
	close(a);
	UNTIL(counters(fixture).connections == 1);
	a = client_go(fixture, "demo", false);
	read_expect(a, 0, BLOCK, 0);
	close(a);
	close(b);
}

static void on_removed(void *context)
{
	struct fixture *fixture = context;

	sem_post(&fixture->removed);
}

static void do_remove(struct fixture *fixture, void *argument)
{
	(void)argument;
	ferry_assert(ferry_nbd_server_export_clients(fixture->server, "demo") == 1);
	ferry_assert(ferry_nbd_server_export_clients(fixture->server, "fixed") == 1);
	ferry_assert(ferry_nbd_server_export_clients(fixture->server, "nowhere") == 0);
	ferry_assert(ferry_nbd_server_export_remove(fixture->server, "demo", on_removed, fixture) ==
		     0);
	ferry_assert(ferry_nbd_server_export_remove(fixture->server, "demo", on_removed, fixture) ==
		     -ENOENT);
}

static void test_export_remove(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[64];
	int demo, fixed, late;

	server_start(fixture);
	demo = client_go(fixture, "demo", false);
	fixed = client_go(fixture, "fixed", false);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	request_say(demo, FERRY_NBD_CMD_FLUSH, 0, 3, 0, 0);
	UNTIL(stub(fixture).in_flight_count == 1);
	on_loop(fixture, do_remove, NULL);
	assert_int_equal(sem_trywait(&fixture->removed), -1);
	late = client_greet(fixture);
	option_expect(late, FERRY_NBD_OPT_GO, data, info_data(data, "demo"),
		      FERRY_NBD_REP_ERR_UNKNOWN);
	option_expect(late, FERRY_NBD_OPT_GO, data, info_data(data, ""), FERRY_NBD_REP_ERR_UNKNOWN);
	close(late);
	behave(fixture, WELL);
	reply_expect(demo, 3, 0); /* What was in flight is answered. */
	hear_end(demo);
	wait_for(&fixture->removed);
	read_expect(fixed, 0, BLOCK, 0);
	close(fixed);
}

static void test_stop_in_flight(void **state)
{
	struct fixture *fixture = *state;
	int quick, stuck;

	fixture->config.stop_ns_max = 200 * FERRY_NS_PER_MS;
	server_start(fixture);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	quick = client_go(fixture, "demo", false);
	stuck = client_greet(fixture);
	request_say(quick, FERRY_NBD_CMD_FLUSH, 0, 3, 0, 0);
	UNTIL(stub(fixture).in_flight_count == 1);
	on_loop(fixture, do_stop, NULL);
	hear_end(stuck);
	hear_end(quick); /* At the deadline, unanswered. */
	assert_int_equal(sem_trywait(&fixture->stopped), -1);
	behave(fixture, WELL);
	wait_for(&fixture->stopped); /* Only when the volume has let go. */
	on_loop(fixture, do_free, NULL);
}

/* What is given up since the agent stops is nobody's error: the client may ask the next agent. */
static void test_stop_gives_up(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	behave(fixture, (struct ferry_block_behaviour){.is_held = true});
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 3, 0, 0);
	request_say(fd, FERRY_NBD_CMD_READ, 0, 4, 0, BLOCK);
	UNTIL(stub(fixture).in_flight_count == 2);
	on_loop(fixture, do_stop, NULL);
	behave(fixture, (struct ferry_block_behaviour){.fail_op = FERRY_OP_FLUSH,
						       .fail_count = 1,
						       .fail_error = -ESHUTDOWN});
	hear_end(fd);
	wait_for(&fixture->stopped);
	on_loop(fixture, do_free, NULL);
}

static void do_adopt(struct fixture *fixture, void *argument)
{
	int *pair = argument;

	ferry_assert(ferry_nbd_server_adopt(fixture->server, "nowhere", dup(pair[0])) == -ENOENT);
	ferry_assert(ferry_nbd_server_adopt(fixture->server, "demo", pair[0]) == 0);
}

/* A client whose handshake was somebody else's affair, and that has sent something already. */
static void test_adopt(void **state)
{
	struct fixture *fixture = *state;
	int pair[2];

	server_start(fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	request_say(pair[1], FERRY_NBD_CMD_FLUSH, 0, 3, 0, 0);
	on_loop(fixture, do_adopt, pair);
	reply_expect(pair[1], 3, 0);
	assert_int_equal(counters(fixture).connections, 1);
	write_expect(pair[1], 0, 0, BLOCK, 7, 0);
	read_expect(pair[1], 0, BLOCK, 7);
	close(pair[1]);
	UNTIL(counters(fixture).connections == 0);
}

/* It ends while a client waits for memory; the memory comes back when all is over. */
static void test_stop_arena_empty(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t data[BLOCK];
	int fd;

	server_start(fixture);
	fd = client_go(fixture, "demo", false);
	on_loop(fixture, do_take_all, NULL);
	request_say(fd, FERRY_NBD_CMD_FLUSH, 0, 1, 0, 0);
	request_say(fd, FERRY_NBD_CMD_WRITE, 0, 2, 0, BLOCK);
	say(fd, data, sizeof(data));
	reply_expect(fd, 1, 0);
	/* The server reads no further than to what it waits for. */
	UNTIL(stub(fixture).submits[FERRY_OP_FLUSH] == 1);
	on_loop(fixture, do_stop, NULL);
	hear_end(fd);
	wait_for(&fixture->stopped);
	on_loop(fixture, do_drop_all, NULL);
	on_loop(fixture, do_free, NULL);
}

static void do_start_expect(struct fixture *fixture, const char *listen, int error)
{
	const struct ferry_nbd_config config = {
		.loop = fixture->loop, .listen = {listen}, .listen_count = 1};
	struct ferry_nbd_server *server = NULL;
	struct ferry_error message = {0};
	int r = ferry_nbd_server_start(&config, &server, &message);

	if (r != error)
		fprintf(stderr, "%s: %d, not %d: %s\n", listen, r, error, message.message);
	ferry_assert(r == error);
	ferry_assert(r == 0 || message.message[0] != '\0');
	(void)ferry_nbd_server_free(server);
}

static void do_addresses(struct fixture *fixture, void *argument)
{
	static const char *const invalid[] = {
		"",	   "tcp:",	"tcp:127.0.0.1",	 "tcp:127.0.0.1:",
		"tcp::1",  "tcp:::1:5", "tcp:127.0.0.1:65536",	 "tcp:127.0.0.1:-1",
		"unix:",   "nbd.sock",	"tcp:example.invalid:0", "tcp:[::1:10809",
		"tcp:[]:1"};
	char long_path[128], name[80];
	struct stat st;

	(void)argument;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(invalid); i++)
		do_start_expect(fixture, invalid[i], -EINVAL);
	(void)snprintf(long_path, sizeof(long_path), "unix:/tmp/%0113d", 0);
	do_start_expect(fixture, long_path, -EINVAL);
	do_start_expect(fixture, "tcp:0.0.0.0:0", -EACCES);
	do_start_expect(fixture, "tcp:[::]:0", -EACCES);
	do_start_expect(fixture, "tcp:localhost:0", 0);
	do_start_expect(fixture, "tcp:127.8.9.10:0", 0);
	(void)snprintf(name, sizeof(name), "unix:%s/none/s", fixture->directory);
	do_start_expect(fixture, name, -ENOENT);
	/* One that is held; then the same again when it is free. */
	do_start_expect(fixture, fixture->listen, -EADDRINUSE);
	ferry_assert(stat(fixture->path, &st) == 0 && (st.st_mode & 0777) == 0600);
	(void)snprintf(name, sizeof(name), "tcp:127.0.0.1:%u",
		       ferry_nbd_server_port(fixture->server, 1));
	do_start_expect(fixture, name, -EADDRINUSE);
}

static void do_stale(struct fixture *fixture, void *argument)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)argument;
	/* A foreign server without our lock, alive; then dead, its socket left behind. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture->path);
	ferry_assert(bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	ferry_assert(listen(fd, 1) == 0);
	do_start_expect(fixture, fixture->listen, -EADDRINUSE);
	ferry_assert(access(fixture->path, F_OK) == 0);
	(void)close(fd);
	do_start_expect(fixture, fixture->listen, 0);
	ferry_assert(access(fixture->path, F_OK) < 0);
	/* Something that isn't ours to remove. */
	fd = open(fixture->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ferry_assert(fd >= 0);
	(void)close(fd);
	do_start_expect(fixture, fixture->listen, -EEXIST);
	ferry_assert(unlink(fixture->path) == 0);
}

static void test_addresses(void **state)
{
	struct fixture *fixture = *state;

	on_loop(fixture, do_stale, NULL);
	server_start(fixture);
	on_loop(fixture, do_addresses, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_client_gone),	     TEST(test_connections_max),
		TEST(test_export_remove),    TEST(test_stop_in_flight),
		TEST(test_stop_arena_empty), TEST(test_addresses),
		TEST(test_stop_gives_up),    TEST(test_adopt),
	};

	return cmocka_run_group_tests_name("nbd_server", tests, NULL, NULL);
}
