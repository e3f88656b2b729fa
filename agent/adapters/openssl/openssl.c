#include "agent/adapters/openssl/openssl.h"

#include <fcntl.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/common/cleanup.h"

struct auth_file {
	struct ferry_auth auth;
	EVP_MAC *mac;
	EVP_MAC_CTX *context; /* Keyed once; each proof starts it anew. */
};

static struct auth_file *auth_file_of(struct ferry_auth *auth)
{
	return FERRY_CONTAINER_OF(auth, struct auth_file, auth);
}

static int auth_file_random(struct ferry_auth *auth, void *ret, size_t length_bytes)
{
	ferry_assert(auth && ret);
	ferry_assert(length_bytes <= INT_MAX);
	return RAND_bytes(ret, (int)length_bytes) == 1 ? 0 : -EIO;
}

static int auth_file_prove(struct ferry_auth *auth, const void *bytes, size_t length_bytes,
			   uint8_t ret[FERRY_PROOF_BYTES])
{
	EVP_MAC_CTX *context = auth_file_of(auth)->context;
	uint8_t proof[EVP_MAX_MD_SIZE];
	size_t proof_bytes = 0;

	ferry_assert(context);
	ferry_assert(bytes && ret);
	if (EVP_MAC_init(context, NULL, 0, NULL) != 1) /* The key stays. */
		return -EIO;
	if (EVP_MAC_update(context, bytes, length_bytes) != 1)
		return -EIO;
	if (EVP_MAC_final(context, proof, &proof_bytes, sizeof(proof)) != 1)
		return -EIO;
	ferry_assert(proof_bytes == FERRY_PROOF_BYTES);
	memcpy(ret, proof, FERRY_PROOF_BYTES);
	return 0;
}

static const struct ferry_auth_ops AUTH_FILE_OPS = {
	.name = "openssl",
	.random = auth_file_random,
	.prove = auth_file_prove,
};

/* Owner, mode and size, of the descriptor and not of the name: no race. */
static int key_file_check(int fd, const char *path, struct ferry_error *reterr)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int r = -errno;

		return ferry_error_set(reterr, r, "cannot examine the key file '%s': %s", path,
				       strerror(-r));
	}
	if (!S_ISREG(st.st_mode))
		return ferry_error_set(reterr, -EINVAL, "the key file '%s' is no regular file",
				       path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return ferry_error_set(reterr, -EPERM,
				       "the key file '%s' belongs to user %u: it must belong to "
				       "root or to the agent's own user (chown root '%s')",
				       path, st.st_uid, path);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return ferry_error_set(reterr, -EPERM,
				       "the key file '%s' is open to others (mode %04o): only its "
				       "owner may have access (chmod 0400 '%s')",
				       path, st.st_mode & 07777u, path);
	return 0;
}

/* Read the whole file, at most @size_bytes; its length. */
static ssize_t key_file_read(int fd, uint8_t *ret, size_t size_bytes)
{
	size_t length_bytes = 0;

	while (length_bytes < size_bytes) {
		ssize_t n = read(fd, ret + length_bytes, size_bytes - length_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		length_bytes += (size_t)n;
	}
	return (ssize_t)length_bytes;
}

static int auth_file_new(const uint8_t *key, size_t key_bytes, struct ferry_auth **ret)
{
	char digest[] = OSSL_DIGEST_NAME_SHA2_256;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	struct auth_file *file = OPENSSL_zalloc(sizeof(*file));

	ferry_assert(key_bytes >= FERRY_AUTH_KEY_BYTES_MIN);
	if (!file)
		return -ENOMEM;
	file->auth.ops = &AUTH_FILE_OPS;
	file->mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
	file->context = file->mac ? EVP_MAC_CTX_new(file->mac) : NULL;
	if (!file->context || EVP_MAC_init(file->context, key, key_bytes, params) != 1) {
		(void)ferry_auth_file_close(&file->auth);
		return -ENOMEM;
	}
	*ret = &file->auth;
	return 0;
}

int ferry_auth_file_open(const char *path, struct ferry_auth **ret, struct ferry_error *reterr)
{
	uint8_t key[FERRY_AUTH_KEY_BYTES_MAX + 1]; /* One more, to see that it is too long. */
	_cleanup_(ferry_closep) int fd = -1;
	ssize_t n;
	int r;

	ferry_assert(path && ret);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "cannot open the key file '%s': %s%s", path,
				       strerror(-r),
				       r == -ENOENT ? ": if the cluster has a key, copy it from "
						      "another node; else make it, on one node: "
						      "`ferry keygen FILE`"
						    : "");
	}
	r = key_file_check(fd, path, reterr);
	if (r < 0)
		return r;
	n = key_file_read(fd, key, sizeof(key));
	if (n < 0)
		r = ferry_error_set(reterr, (int)n, "cannot read the key file '%s': %s", path,
				    strerror((int)-n));
	else if (n < FERRY_AUTH_KEY_BYTES_MIN || n > FERRY_AUTH_KEY_BYTES_MAX)
		r = ferry_error_set(
			reterr, -EINVAL, "the key file '%s' has %s: a key has %d to %d bytes", path,
			n > FERRY_AUTH_KEY_BYTES_MAX ? "too many bytes" : "too few bytes",
			FERRY_AUTH_KEY_BYTES_MIN, FERRY_AUTH_KEY_BYTES_MAX);
	else if (auth_file_new(key, (size_t)n, ret) < 0)
		r = ferry_error_set(reterr, -ENOMEM,
				    "OpenSSL cannot prepare HMAC-SHA256 with the key file '%s'",
				    path);
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

struct ferry_auth *ferry_auth_file_close(struct ferry_auth *auth)
{
	struct auth_file *file;

	if (!auth)
		return NULL;
	ferry_assert(auth->ops == &AUTH_FILE_OPS);
	file = auth_file_of(auth);
	EVP_MAC_CTX_free(file->context); /* OpenSSL wipes its copy of the key. */
	EVP_MAC_free(file->mac);
	OPENSSL_clear_free(file, sizeof(*file));
	return NULL;
}

static int key_write(int fd, const uint8_t *key, size_t key_bytes)
{
	size_t written_bytes = 0;

	while (written_bytes < key_bytes) {
		ssize_t n = write(fd, key + written_bytes, key_bytes - written_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		written_bytes += (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

int ferry_auth_file_create(const char *path, struct ferry_error *reterr)
{
	uint8_t key[FERRY_AUTH_KEY_BYTES_MADE];
	_cleanup_(ferry_closep) int fd = -1;
	int r;

	ferry_assert(path);
	if (RAND_bytes(key, sizeof(key)) != 1)
		return ferry_error_set(reterr, -EIO, "the system gives no random numbers");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : key_write(fd, key, sizeof(key));
	OPENSSL_cleanse(key, sizeof(key));
	if (r == -EEXIST)
		return ferry_error_set(reterr, r,
				       "'%s' is there already and is left as it is: agents with "
				       "another key would be turned away",
				       path);
	if (r < 0) {
		if (fd >= 0)
			(void)unlink(path); /* Half a key; that it stays can't be helped. */
		return ferry_error_set(reterr, r, "cannot make the key file '%s': %s", path,
				       strerror(-r));
	}
	return 0;
}
