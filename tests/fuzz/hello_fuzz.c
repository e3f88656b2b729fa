/*
 * hello_fuzz - the greeting in rdma_cm's private data, of any length that comes. The first byte
 * says what is made good: bit 0 the proof, bit 1 magic and version, bit 2 the length; and bit 3
 * that it answers a request.
 *
 * What is decoded is valid, and encodes to the very bytes that it came from; it is proven only by
 * who has the key, for this secret, and for the request that it answers.
 */
#include "proto/cursor.h"
#include "proto/rdma_hello.h"
#include "tests/fuzz/fake_auth.h"

enum { PRIVATE_BYTES_MAX = 255, KEY = 11 };
enum { GOOD_PROOF = 1u << 0, GOOD_MAGIC = 1u << 1, GOOD_LENGTH = 1u << 2, IS_ANSWER = 1u << 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static const struct ferry_rdma_secret SECRET = {{1}}, OTHER_SECRET = {{2}};
static const uint8_t REQUEST[FERRY_RDMA_HELLO_BYTES] = {3}, OTHER_REQUEST[FERRY_RDMA_HELLO_BYTES];

static void make_good(uint8_t bytes[PRIVATE_BYTES_MAX], uint8_t what)
{
	struct ferry_writer writer = ferry_writer_make(bytes, PRIVATE_BYTES_MAX);

	if (!(what & GOOD_MAGIC))
		return;
	ferry_writer_u32(&writer, FERRY_RDMA_HELLO_MAGIC);
	ferry_writer_u16(&writer, FERRY_RDMA_VERSION);
}

/* Whether @bytes, which decoded to @hello, are proven, as they should be. */
static void expect_proof(uint8_t bytes[FERRY_RDMA_HELLO_BYTES],
			 const struct ferry_rdma_hello *hello, uint8_t what)
{
	const uint8_t *request = what & IS_ANSWER ? REQUEST : NULL;
	uint8_t genuine[FERRY_RDMA_HELLO_BYTES];
	struct fake_auth auth;
	bool is_genuine;
	int r;

	fake_auth_init(&auth, KEY, 1);
	r = ferry_rdma_hello_encode(&auth.auth, &SECRET, request, hello, genuine);
	ferry_assert(r == 0);
	ferry_assert(memcmp(bytes, genuine, sizeof(genuine) - FERRY_PROOF_BYTES) == 0);
	if (what & GOOD_PROOF)
		memcpy(bytes, genuine, sizeof(genuine));
	is_genuine = memcmp(bytes, genuine, sizeof(genuine)) == 0;
	r = ferry_rdma_hello_verify(&auth.auth, &SECRET, request, bytes);
	ferry_assert(r == (is_genuine ? 0 : -EACCES));
	if (!is_genuine)
		return;
	ferry_assert(ferry_rdma_hello_verify(&auth.auth, &OTHER_SECRET, request, bytes) < 0);
	ferry_assert(ferry_rdma_hello_verify(&auth.auth, &SECRET, OTHER_REQUEST, bytes) < 0);
	fake_auth_init(&auth, KEY + 1, 1);
	ferry_assert(ferry_rdma_hello_verify(&auth.auth, &SECRET, request, bytes) < 0);
	auth.has_no_digest = true;
	ferry_assert(ferry_rdma_hello_verify(&auth.auth, &SECRET, request, bytes) == -EIO);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	uint8_t bytes[PRIVATE_BYTES_MAX] = {};
	struct ferry_rdma_hello hello = {};
	struct ferry_error error = {};
	size_t size_bytes;
	int r;

	if (length_bytes < 1)
		return 0;
	size_bytes = ferry_min_u64(length_bytes - 1, sizeof(bytes));
	memcpy(bytes, data + 1, size_bytes);
	make_good(bytes, data[0]);
	if (data[0] & GOOD_LENGTH)
		size_bytes = FERRY_RDMA_HELLO_BYTES;
	r = ferry_rdma_hello_decode(bytes, size_bytes, &hello, &error);
	if (r < 0) {
		ferry_assert(r == -EBADMSG || r == -EPROTO || r == -EPROTONOSUPPORT);
		ferry_assert(error.code == r && error.message[0] != '\0');
		ferry_assert(hello.node.v == 0); /* Untouched. */
		return 0;
	}
	ferry_assert(size_bytes >= FERRY_RDMA_HELLO_BYTES);
	ferry_assert(hello.node.v > 0 && hello.incarnation.v > 0 && hello.number > 0);
	expect_proof(bytes, &hello, data[0]);
	return 0;
}
