/* nbddev_test.c - the adapter over a kernel of our own: a folder for /sys/block, and its commands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/nbddev/private.h"

#define MINE "nbd+unix:///data?socket=/run/a/nbd.sock"
#define COUSIN "nbd+unix:///other?socket=/run/a/nbd.sock"
#define OTHER "nbd+unix:///data?socket=/run/a/nbd.sock2"

enum { DEVICES = 4 };

static struct {
	char folder[64], sys_block[80], dev[80];
	struct nbddev_kernel kernel;
	bool is_dead[DEVICES];
	bool is_used[DEVICES]; /* So it stays, disconnected. */
	bool is_disconnected[DEVICES];
	int kept; /* A connection that was taken. */
	int connect_error;
	bool is_old; /* Knows no identities. */
	uint32_t connects, disconnects;
} at;

static void path_of(char ret[160], const char *what, uint32_t index)
{
	(void)snprintf(ret, 160, "%s/nbd%u%s", at.sys_block, index, what);
}

static void file_write(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fprintf(file, "%s\n", text) > 0);
	assert_int_equal(fclose(file), 0);
}

static bool is_there(uint32_t index)
{
	char path[160];

	path_of(path, "/backend", index);
	return access(path, F_OK) == 0;
}

static void device_add(uint32_t index, const char *identity)
{
	char path[160];

	path_of(path, "", index);
	(void)mkdir(path, 0700);
	path_of(path, "/queue", index);
	(void)mkdir(path, 0700);
	path_of(path, "/queue/max_sectors_kb", index);
	file_write(path, "128");
	path_of(path, "/queue/io_timeout", index);
	file_write(path, "30000");
	path_of(path, "/queue/logical_block_size", index);
	file_write(path, "4096");
	path_of(path, "/size", index);
	file_write(path, "2048");
	path_of(path, "/ro", index);
	file_write(path, "0");
	if (identity) {
		path_of(path, "/backend", index);
		file_write(path, identity);
	}
	(void)snprintf(path, sizeof(path), "%s/nbd%u", at.dev, index);
	file_write(path, "");
}

static void device_free(uint32_t index)
{
	char path[160];

	path_of(path, "/backend", index);
	assert_int_equal(unlink(path), 0);
}

/* ---- The kernel. ---- */

static int fake_connect(const char *identity, int fd, const struct ferry_nbddev_shape *shape,
			uint32_t *ret_index)
{
	uint32_t index = 0;

	assert_true(fd >= 0);
	assert_int_equal(shape->size_bytes, 1 << 20);
	if (at.connect_error)
		return at.connect_error;
	while (is_there(index))
		index++;
	assert_true(index < DEVICES);
	device_add(index, at.is_old ? NULL : identity);
	at.is_dead[index] = at.is_disconnected[index] = false;
	at.connects++;
	*ret_index = index;
	return 0;
}

static int fake_reconnect(const char *identity, uint32_t index, int fd)
{
	char path[160], is[200] = "";
	FILE *file;

	path_of(path, "/backend", index);
	file = fopen(path, "r");
	if (!file)
		return -EINVAL;
	assert_int_equal(fscanf(file, "%199s", is), 1);
	assert_int_equal(fclose(file), 0);
	if (strcmp(is, identity) != 0 || at.is_disconnected[index])
		return -EINVAL;
	if (at.is_dead[index] && at.kept < 0) {
		at.kept = dup(fd);
		at.is_dead[index] = false;
	}
	return 0;
}

static int fake_disconnect(uint32_t index)
{
	char byte = 0;

	assert_true(index < DEVICES);
	if (at.kept >= 0) { /* Nobody of ours may still be at the other end: it would wait. */
		assert_int_equal(send(at.kept, &byte, 1, MSG_NOSIGNAL), -1);
		assert_int_equal(close(at.kept), 0);
	}
	at.kept = -1;
	at.disconnects++;
	at.is_disconnected[index] = true;
	if (!at.is_used[index] && is_there(index))
		device_free(index);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	memset(&at, 0, sizeof(at));
	(void)snprintf(at.folder, sizeof(at.folder), "/tmp/nbd.XXXXXX");
	assert_non_null(mkdtemp(at.folder));
	(void)snprintf(at.sys_block, sizeof(at.sys_block), "%s/s", at.folder);
	memcpy(at.dev, at.folder, sizeof(at.folder)); /* Short enough for a device's path. */
	assert_int_equal(mkdir(at.sys_block, 0700), 0);
	at.kept = -1;
	at.kernel = (struct nbddev_kernel){.sys_block = at.sys_block,
					   .dev = at.dev,
					   .connect = fake_connect,
					   .reconnect = fake_reconnect,
					   .disconnect = fake_disconnect};
	return 0;
}

static int teardown(void **state)
{
	char command[160];

	(void)state;
	if (at.kept >= 0)
		(void)close(at.kept);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", at.folder);
	return system(command);
}

static int attach(const char *identity, char ret[FERRY_NBDDEV_PATH_MAX])
{
	const struct ferry_nbddev_shape shape = {.size_bytes = 1 << 20, .block_bytes = 4096};
	struct ferry_error error;

	return nbddev_attach(&at.kernel, identity, "5", 0, &shape, ret, &error);
}

static int file_number(uint32_t index, const char *what)
{
	char path[160];
	FILE *file;
	int number;

	path_of(path, what, index);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &number), 1);
	assert_int_equal(fclose(file), 0);
	return number;
}

static bool ends_with(const char *text, const char *end)
{
	return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

/* ---- Tests. ---- */

static void test_attach(void **state)
{
	char device[FERRY_NBDDEV_PATH_MAX];
	struct ferry_error error;

	(void)state;
	device_add(0, COUSIN "#5");
	assert_int_equal(nbddev_find(&at.kernel, MINE, device, &error), -ENOENT);
	assert_int_equal(attach(MINE, device), 0);
	assert_true(ends_with(device, "/nbd1"));
	assert_int_equal(file_number(1, "/queue/max_sectors_kb"), 1024);
	assert_int_equal(file_number(1, "/queue/io_timeout"), 5000);
	memset(device, 0, sizeof(device));
	assert_int_equal(nbddev_end_dead(&at.kernel, MINE, &error), 0);
	assert_int_equal(nbddev_find(&at.kernel, MINE, device, &error), 0);
	assert_true(ends_with(device, "/nbd1"));
	assert_int_equal(at.disconnects, 0);
	assert_int_equal(nbddev_detach(&at.kernel, MINE, &error), 0);
	assert_false(is_there(1));
	assert_true(is_there(0));
	assert_int_equal(nbddev_detach(&at.kernel, MINE, &error), -ENOENT);
}

static void test_attach_fails(void **state)
{
	char device[FERRY_NBDDEV_PATH_MAX];

	(void)state;
	at.connect_error = -ENODEV;
	assert_int_equal(attach(MINE, device), -ENODEV);
	at.connect_error = -EPERM;
	assert_int_equal(attach(MINE, device), -EPERM);
	at.connect_error = 0;
	at.is_old = true;
	assert_int_equal(attach(MINE, device), -EOPNOTSUPP);
	assert_int_equal(at.disconnects, 1); /* It is not left. */
}

/* Its server has died: nobody else's is touched. */
static void test_dead(void **state)
{
	char device[FERRY_NBDDEV_PATH_MAX];
	struct ferry_error error;

	(void)state;
	device_add(0, COUSIN "#5");
	device_add(1, MINE "#5");
	at.is_dead[0] = at.is_dead[1] = true;
	assert_int_equal(nbddev_end_dead(&at.kernel, MINE, &error), 0);
	assert_true(is_there(0));
	assert_false(is_there(1));
	assert_int_equal(at.disconnects, 1);
	assert_int_equal(attach(MINE, device), 0);
	at.is_dead[1] = true;
	assert_int_equal(nbddev_detach(&at.kernel, MINE, &error), 0);
	assert_false(is_there(1));
}

/* And somebody uses it: errors for him, and it stays till he goes. */
static void test_dead_in_use(void **state)
{
	struct ferry_error error;

	(void)state;
	device_add(2, MINE "#5");
	at.is_dead[2] = at.is_used[2] = true;
	assert_int_equal(nbddev_end_dead(&at.kernel, MINE, &error), -EBUSY);
	assert_int_equal(at.disconnects, 1);
	assert_int_equal(nbddev_detach(&at.kernel, MINE, &error), -EBUSY);
	assert_int_equal(at.disconnects, 1); /* Once is enough. */
	device_free(2);
	assert_int_equal(nbddev_end_dead(&at.kernel, MINE, &error), 0);
}

/* Its flushes fail (those of such a file do): that keeps nobody from detaching it. */
static void test_detach_without_flush(void **state)
{
	char device[FERRY_NBDDEV_PATH_MAX];
	struct ferry_error error;

	(void)state;
	assert_int_equal(attach(MINE, device), 0);
	assert_int_equal(unlink(device), 0);
	assert_int_equal(symlink("/proc/version", device), 0);
	assert_int_equal(nbddev_detach(&at.kernel, MINE, &error), 0);
	assert_false(is_there(0));
}

static int give_back(const char *label, uint64_t size_bytes, uint16_t flags, int *ret_fd)
{
	const struct ferry_nbddev_shape shape = {
		.size_bytes = size_bytes, .block_bytes = 4096, .flags = flags};

	return nbddev_return(&at.kernel, MINE, label, &shape, ret_fd);
}

/* The next agent goes on: what the kernel sends over its new connection is heard at our end. */
static void test_return(void **state)
{
	char byte = 'x';
	int fd = -1;

	(void)state;
	device_add(0, COUSIN "#5");
	device_add(1, MINE "#5");
	at.is_dead[0] = at.is_dead[1] = true;
	assert_int_equal(give_back("5", 1 << 20, 0, &fd), 0);
	assert_true(fd >= 0 && at.kept >= 0);
	assert_int_equal(send(at.kept, &byte, 1, MSG_NOSIGNAL), 1);
	byte = 0;
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(at.disconnects, 0);
	assert_true(is_there(0) && at.is_dead[0]);
	assert_int_equal(close(fd), 0);
	/* It is served now: nobody else gets it, and nobody ends it. */
	fd = -1;
	assert_int_equal(give_back("5", 1 << 20, 0, &fd), -EAGAIN);
	assert_int_equal(nbddev_end(&at.kernel, MINE), -EAGAIN);
	assert_int_equal(fd, -1);
	assert_int_equal(at.disconnects, 0);
	at.is_dead[1] = true;
	assert_int_equal(close(at.kept), 0);
	at.kept = -1;
	assert_int_equal(nbddev_end(&at.kernel, MINE), 1);
	assert_false(is_there(1));
	assert_true(is_there(0));
	assert_int_equal(nbddev_end(&at.kernel, MINE), 0);
	assert_int_equal(give_back("5", 1 << 20, 0, &fd), -ENOENT);
}

/* Another lun, another size, or one that must not be written now: what it holds gets errors. */
static void test_return_of_another(void **state)
{
	static const struct {
		const char *is, *label;
		uint64_t size_bytes;
		uint16_t flags;
	} cases[] = {{MINE "#5", "6", 1 << 20, 0},
		     {MINE "#5", "5", 1 << 21, 0},
		     {MINE, "5", 1 << 20, 0},
		     {MINE "#5", "5", 1 << 20, FERRY_NBDDEV_READ_ONLY}};

	(void)state;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		int fd = -1;

		device_add(2, cases[i].is);
		at.is_dead[2] = true;
		at.is_disconnected[2] = false;
		assert_int_equal(
			give_back(cases[i].label, cases[i].size_bytes, cases[i].flags, &fd),
			-ESTALE);
		assert_int_equal(fd, -1);
		assert_false(is_there(2));
		assert_int_equal(at.disconnects, i + 1);
	}
}

/* One that was ended is still in use, beside its successor: that alone gets the connection. */
static void test_return_beside_an_ended(void **state)
{
	int fd = -1;

	(void)state;
	device_add(0, MINE "#5");
	device_add(1, MINE "#5");
	at.is_used[0] = at.is_disconnected[0] = true;
	at.is_dead[0] = at.is_dead[1] = true;
	assert_int_equal(give_back("5", 1 << 20, 0, &fd), 0);
	assert_true(fd >= 0 && !at.is_dead[1]);
	assert_int_equal(at.disconnects, 0);
	assert_int_equal(close(fd), 0);
}

/*
 * An agent starts: what its predecessor at the same socket has left of a volume that is no more
 * ends, if it is dead.
 */
static void test_clear(void **state)
{
	static const char *const volumes[] = {"dat", "data"};

	(void)state;
	device_add(0, MINE "#5");
	device_add(1, COUSIN "#5");
	device_add(2, OTHER "#5");
	device_add(3, COUSIN); /* Of an agent in another mount namespace: it lives. */
	at.is_dead[0] = at.is_dead[1] = at.is_dead[2] = true;
	assert_int_equal(nbddev_clear(&at.kernel, "/run/a/nbd.sock", volumes, 2), 1);
	assert_false(is_there(1));
	assert_true(is_there(0) && is_there(2) && is_there(3));
	assert_int_equal(nbddev_clear(&at.kernel, "/run/a/nbd", volumes, 0), 0);
	assert_int_equal(nbddev_clear(&at.kernel, "/run/a/nbd.sock", volumes, 1), 1);
	assert_false(is_there(0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_attach),
		TEST(test_attach_fails),
		TEST(test_dead),
		TEST(test_dead_in_use),
		TEST(test_clear),
		TEST(test_detach_without_flush),
		TEST(test_return),
		TEST(test_return_of_another),
		TEST(test_return_beside_an_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
