#include "agent/adapters/statefile/statefile.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char folder[64];
	char state[96];
	struct ferry_statefile *statefile;
	struct ferry_store *store;
};

static struct fixture the_fixture;

static int setup(void **state)
{
	struct fixture *f = &the_fixture;
	struct ferry_error error;
	const char *parent = getenv("TMPDIR");

	memset(f, 0, sizeof(*f));
	snprintf(f->folder, sizeof(f->folder), "%.32s/ferry-state.XXXXXX",
		 parent ? parent : "/tmp");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->state, sizeof(f->state), "%.60s/state", f->folder);
	assert_int_equal(ferry_statefile_open(f->state, &f->statefile, &error), 0);
	f->store = ferry_statefile_store(f->statefile);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	f->statefile = ferry_statefile_close(f->statefile);
	snprintf(command, sizeof(command), "rm -rf '%s'", f->folder);
	assert_int_equal(system(command), 0);
	return 0;
}

static const char *path_of(const struct fixture *f, const char *key)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", f->state, key);
	return path;
}

static void reopen(struct fixture *f)
{
	struct ferry_error error;

	f->statefile = ferry_statefile_close(f->statefile);
	assert_int_equal(ferry_statefile_open(f->state, &f->statefile, &error), 0);
	f->store = ferry_statefile_store(f->statefile);
}

static void saves_and_loads(void **state)
{
	struct fixture *f = *state;
	uint8_t value[FERRY_STORE_VALUE_BYTES_MAX], back[FERRY_STORE_VALUE_BYTES_MAX];
	struct stat status;

	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)), -ENOENT);
	for (size_t length = 0; length <= sizeof(value); length += 64) {
		memset(value, (int)length + 1, sizeof(value));
		assert_int_equal(f->store->ops->save(f->store, "epoch.a", value, length), 0);
		memset(back, 0, sizeof(back));
		assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)),
				 length);
		assert_memory_equal(back, value, length);
	}
	assert_int_equal(f->store->ops->save(f->store, "epoch.b", "b", 1), 0);
	reopen(f);
	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)),
			 sizeof(value));
	assert_int_equal(f->store->ops->load(f->store, "epoch.b", back, sizeof(back)), 1);
	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, 511), -ENOBUFS);
	assert_int_equal(stat(f->state, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(stat(path_of(f, "epoch.a"), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(access(path_of(f, "epoch.a~"), F_OK), -1);
}

static void keys_are_checked(void **state)
{
	static const char *const bad[] = {"",  ".",   "..", "../x",    "a/b",
					  "A", "a b", "a~", ".hidden", "a\n"};
	struct fixture *f = *state;
	char key[FERRY_STATEFILE_KEY_MAX + 2];
	uint8_t back[8];

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(bad); i++) {
		assert_int_equal(f->store->ops->save(f->store, bad[i], "x", 1), -EINVAL);
		assert_int_equal(f->store->ops->load(f->store, bad[i], back, 8), -EINVAL);
	}
	memset(key, 'k', sizeof(key));
	key[FERRY_STATEFILE_KEY_MAX + 1] = '\0';
	assert_int_equal(f->store->ops->save(f->store, key, "x", 1), -EINVAL);
	key[FERRY_STATEFILE_KEY_MAX] = '\0';
	assert_int_equal(f->store->ops->save(f->store, key, "x", 1), 0);
	assert_int_equal(f->store->ops->load(f->store, key, back, 8), 1);
}

static size_t slurp(const char *path, uint8_t *ret, size_t size_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count = read(fd, ret, size_bytes);

	assert_true(fd >= 0 && count >= 0);
	close(fd);
	return (size_t)count;
}

static void spill(const char *path, const uint8_t *bytes, size_t length_bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length_bytes), length_bytes);
	close(fd);
}

/* Each single flipped bit, each shorter length, and a longer one: damaged, never absent. */
static void damage_is_told(void **state)
{
	struct fixture *f = *state;
	uint8_t good[1024], bad[1024], back[FERRY_STORE_VALUE_BYTES_MAX];
	const char *path = path_of(f, "epoch.a");
	size_t length;

	assert_int_equal(f->store->ops->save(f->store, "epoch.a", "0123456789abcdef", 16), 0);
	length = slurp(path, good, sizeof(good));
	assert_true(length > 16 && length < 512);
	for (size_t bit = 0; bit < length * 8; bit++) {
		memcpy(bad, good, length);
		bad[bit / 8] = (uint8_t)(bad[bit / 8] ^ (1u << bit % 8));
		spill(path, bad, length);
		assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)),
				 -EBADMSG);
	}
	for (size_t shorter = 0; shorter < length; shorter++) {
		spill(path, good, shorter);
		assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)),
				 -EBADMSG);
	}
	memset(bad, 0, sizeof(bad));
	memcpy(bad, good, length);
	spill(path, bad, length + 1);
	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)), -EBADMSG);
	spill(path, bad, sizeof(bad));
	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)), -EBADMSG);
	/* Another key's file under this name. */
	spill(path_of(f, "epoch.b"), good, length);
	assert_int_equal(f->store->ops->load(f->store, "epoch.b", back, sizeof(back)), -EBADMSG);
	/* Not a file at all: there, but not to be had. */
	assert_int_equal(mkdir(path_of(f, "epoch.c"), 0700), 0);
	assert_int_equal(f->store->ops->load(f->store, "epoch.c", back, sizeof(back)), -EIO);
	/* And a save makes it good again. */
	assert_int_equal(f->store->ops->save(f->store, "epoch.a", "new", 3), 0);
	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)), 3);
	assert_memory_equal(back, "new", 3);
}

/* A save that a power cut ended before the rename: the old value, and no left-over. */
static void torn_save(void **state)
{
	struct fixture *f = *state;
	uint8_t back[FERRY_STORE_VALUE_BYTES_MAX];

	assert_int_equal(f->store->ops->save(f->store, "epoch.a", "old", 3), 0);
	spill(path_of(f, "epoch.a~"), (const uint8_t *)"FRRY", 4);
	reopen(f);
	assert_int_equal(access(path_of(f, "epoch.a~"), F_OK), -1);
	assert_int_equal(f->store->ops->load(f->store, "epoch.a", back, sizeof(back)), 3);
	assert_memory_equal(back, "old", 3);
	/* A save that fails changes nothing and leaves nothing. */
	assert_int_equal(mkdir(path_of(f, "epoch.b"), 0700), 0);
	assert_int_equal(f->store->ops->save(f->store, "epoch.b", "x", 1), -EIO);
	assert_int_equal(access(path_of(f, "epoch.b~"), F_OK), -1);
}

static void refused(void **state)
{
	struct fixture *f = *state;
	struct ferry_statefile *other = NULL;
	struct ferry_error error = {0};

	assert_int_equal(ferry_statefile_open(f->state, &other, &error), -EBUSY);
	assert_int_equal(ferry_statefile_open(path_of(f, "no/where"), &other, &error), -ENOENT);
	assert_int_equal(f->store->ops->save(f->store, "file", "x", 1), 0);
	assert_int_equal(ferry_statefile_open(path_of(f, "file"), &other, &error), -ENOTDIR);
	assert_int_equal(mkdir(path_of(f, "open"), 0700), 0);
	assert_int_equal(chmod(path_of(f, "open"), 0777), 0);
	assert_int_equal(ferry_statefile_open(path_of(f, "open"), &other, &error), -EPERM);
	assert_null(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(saves_and_loads, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_are_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(torn_save, setup, teardown),
		cmocka_unit_test_setup_teardown(refused, setup, teardown),
	};

	return cmocka_run_group_tests_name("statefile", tests, NULL, NULL);
}
