#include "agent/adapters/openssl/openssl.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/ferry-openssl-XXXXXX";
static char path[sizeof(folder) + 8];

static int folder_make(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/key", folder);
	return 0;
}

static int folder_remove(void **state)
{
	(void)state;
	(void)unlink(path); /* It may be gone. */
	return rmdir(folder);
}

static void key_write(const void *key, size_t key_bytes, mode_t mode)
{
	int fd;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, key, key_bytes), key_bytes);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static char last_message[FERRY_ERROR_MESSAGE_MAX];

static void assert_refused(int r, const char *word)
{
	struct ferry_auth *auth = NULL;
	struct ferry_error error = {};

	assert_int_equal(ferry_auth_file_open(path, &auth, &error), r);
	assert_null(auth);
	assert_int_equal(error.code, r);
	assert_non_null(strstr(error.message, word));
	assert_non_null(strstr(error.message, path));
	memcpy(last_message, error.message, sizeof(last_message));
}

/* RFC 4231 has no key of 32 bytes or more and short data but case 6: 131 bytes of aa. */
static void digest_is_the_rfcs(void **state)
{
	static const char DATA[] = "Test Using Larger Than Block-Size Key - Hash Key First";
	static const uint8_t EXPECTED[FERRY_PROOF_BYTES] = {
		0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f, 0x0d, 0x8a, 0x26,
		0xaa, 0xcb, 0xf5, 0xb7, 0x7f, 0x8e, 0x0b, 0xc6, 0x21, 0x37, 0x28,
		0xc5, 0x14, 0x05, 0x46, 0x04, 0x0f, 0x0e, 0xe3, 0x7f, 0x54};
	_cleanup_(ferry_auth_file_closep) struct ferry_auth *auth = NULL;
	struct ferry_error error = {};
	uint8_t key[131], proof[FERRY_PROOF_BYTES];

	(void)state;
	memset(key, 0xaa, sizeof(key));
	key_write(key, sizeof(key), 0400);
	assert_int_equal(ferry_auth_file_open(path, &auth, &error), 0);
	for (int i = 0; i < 3; i++) { /* One context, many proofs. */
		memset(proof, 0, sizeof(proof));
		assert_int_equal(auth->ops->prove(auth, DATA, sizeof(DATA) - 1, proof), 0);
		assert_memory_equal(proof, EXPECTED, sizeof(proof));
		assert_int_equal(auth->ops->prove(auth, "x", 1, proof), 0);
		assert_memory_not_equal(proof, EXPECTED, sizeof(proof));
	}
}

static void random_numbers_differ(void **state)
{
	_cleanup_(ferry_auth_file_closep) struct ferry_auth *auth = NULL;
	uint8_t a[FERRY_NONCE_BYTES] = {}, b[FERRY_NONCE_BYTES] = {};

	(void)state;
	key_write("0123456789012345678901234567890123456789", 40, 0600);
	assert_int_equal(ferry_auth_file_open(path, &auth, NULL), 0);
	assert_int_equal(auth->ops->random(auth, a, sizeof(a)), 0);
	assert_int_equal(auth->ops->random(auth, b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

static void made_keys_work_and_stay(void **state)
{
	_cleanup_(ferry_auth_file_closep) struct ferry_auth *auth = NULL;
	struct ferry_error error = {};
	struct stat st;

	(void)state;
	(void)unlink(path);
	assert_int_equal(ferry_auth_file_create(path, &error), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, FERRY_AUTH_KEY_BYTES_MADE);
	assert_int_equal(ferry_auth_file_open(path, &auth, &error), 0);
	assert_int_equal(ferry_auth_file_create(path, &error), -EEXIST);
	assert_non_null(strstr(error.message, "left as it is"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, FERRY_AUTH_KEY_BYTES_MADE);
}

static void unsafe_files_are_refused(void **state)
{
	static const mode_t MODES[] = {0640, 0604, 0660, 0410, 0644, 0602};
	uint8_t key[FERRY_AUTH_KEY_BYTES_MAX + 1] = {1};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(MODES); i++) {
		key_write(key, 128, MODES[i]);
		assert_refused(-EPERM, "open to others");
	}
	key_write(key, FERRY_AUTH_KEY_BYTES_MIN - 1, 0400);
	assert_refused(-EINVAL, "too few");
	key_write(key, 0, 0400);
	assert_refused(-EINVAL, "too few");
	key_write(key, sizeof(key), 0400);
	assert_refused(-EINVAL, "too many");
	(void)unlink(path);
	assert_refused(-ENOENT, "ferry keygen");
	assert_int_equal(symlink(path, path), 0); /* Another error needs no new key. */
	assert_refused(-ELOOP, "symbolic links");
	assert_null(strstr(last_message, "keygen"));
	(void)unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refused(-EINVAL, "no regular file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0); /* And doesn't hang. */
	assert_refused(-EINVAL, "no regular file");
	if (geteuid() != 0)
		return; /* Only root can give a file away. */
	key_write(key, 128, 0400);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_refused(-EPERM, "belongs to user 65534");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_is_the_rfcs),
		cmocka_unit_test(random_numbers_differ),
		cmocka_unit_test(made_keys_work_and_stay),
		cmocka_unit_test(unsafe_files_are_refused),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
