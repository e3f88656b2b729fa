#include "proto/rdma_hello.h"

#include "proto/cursor.h"
#include "proto/rdma_frame.h"

enum {
	FIELDS_BYTES = FERRY_RDMA_HELLO_BYTES - FERRY_PROOF_BYTES,
	LABEL_BYTES = 16,
	PROVEN_BYTES_MAX = LABEL_BYTES + FERRY_PROOF_BYTES + FERRY_RDMA_HELLO_BYTES + FIELDS_BYTES,
};
_Static_assert(4 + 2 + 2 + 4 + 4 + 8 == FIELDS_BYTES, "layout");

/* HMAC over a label that differs by role, the secret, for an answer its request, and the fields. */
static int prove(struct ferry_auth *auth, const struct ferry_rdma_secret *secret,
		 const uint8_t *request, const uint8_t *fields, uint8_t ret[FERRY_PROOF_BYTES])
{
	static const char LABELS[2][LABEL_BYTES] = {"rdma connector", "rdma acceptor"};
	uint8_t bytes[PROVEN_BYTES_MAX];
	struct ferry_writer writer = ferry_writer_make(bytes, sizeof(bytes));

	ferry_assert(auth && secret && fields);
	ferry_writer_bytes(&writer, LABELS[request != NULL], LABEL_BYTES);
	ferry_writer_bytes(&writer, secret->v, sizeof(secret->v));
	if (request)
		ferry_writer_bytes(&writer, request, FERRY_RDMA_HELLO_BYTES);
	ferry_writer_bytes(&writer, fields, FIELDS_BYTES);
	return auth->ops->prove(auth, bytes, writer.offset_bytes, ret);
}

int ferry_rdma_hello_encode(struct ferry_auth *auth, const struct ferry_rdma_secret *secret,
			    const uint8_t *request, const struct ferry_rdma_hello *hello,
			    uint8_t ret[FERRY_RDMA_HELLO_BYTES])
{
	struct ferry_writer writer = ferry_writer_make(ret, FERRY_RDMA_HELLO_BYTES);

	ferry_assert(hello->node.v > 0 && hello->incarnation.v > 0 && hello->number > 0);
	ferry_assert(hello->credits > 0 && hello->credits <= FERRY_RDMA_CREDITS_MAX);
	ferry_writer_u32(&writer, FERRY_RDMA_HELLO_MAGIC);
	ferry_writer_u16(&writer, FERRY_RDMA_VERSION);
	ferry_writer_u16(&writer, (uint16_t)hello->credits);
	ferry_writer_u32(&writer, hello->node.v);
	ferry_writer_u32(&writer, hello->number);
	ferry_writer_u64(&writer, hello->incarnation.v);
	return prove(auth, secret, request, ret, ferry_writer_take(&writer, FERRY_PROOF_BYTES));
}

int ferry_rdma_hello_decode(const void *bytes, size_t length_bytes, struct ferry_rdma_hello *ret,
			    struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	struct ferry_rdma_hello hello;
	uint32_t magic, version;

	ferry_assert(ret);
	magic = ferry_reader_u32(&reader);
	version = ferry_reader_u16(&reader);
	hello.credits = ferry_reader_u16(&reader);
	hello.node.v = ferry_reader_u32(&reader);
	hello.number = ferry_reader_u32(&reader);
	hello.incarnation.v = ferry_reader_u64(&reader);
	ferry_reader_bytes(&reader, hello.proof, sizeof(hello.proof));
	if (reader.has_failed || magic != FERRY_RDMA_HELLO_MAGIC)
		return ferry_error_set(reterr, -EBADMSG, "this is no Ferry agent's RDMA");
	if (version != FERRY_RDMA_VERSION)
		return ferry_error_set(reterr, -EPROTONOSUPPORT,
				       "RDMA: version %u; this agent speaks %d", version,
				       FERRY_RDMA_VERSION);
	if (hello.node.v == 0 || hello.incarnation.v == 0 || hello.number == 0 ||
	    hello.credits == 0 || hello.credits > FERRY_RDMA_CREDITS_MAX)
		return ferry_error_set(reterr, -EPROTO, "RDMA: a greeting that cannot be");
	*ret = hello;
	return 0;
}

int ferry_rdma_hello_verify(struct ferry_auth *auth, const struct ferry_rdma_secret *secret,
			    const uint8_t *request, const uint8_t bytes[FERRY_RDMA_HELLO_BYTES])
{
	uint8_t proof[FERRY_PROOF_BYTES];

	ferry_assert(bytes);
	if (prove(auth, secret, request, bytes, proof) < 0)
		return -EIO;
	return ferry_proof_equal(proof, bytes + FIELDS_BYTES) ? 0 : -EACCES;
}
