#include "proto/handshake.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/cursor.h"
#include "proto/wire.h"

enum {
	HS_MAGIC = 0x53485246, /* "FRHS" */
	HS_HEADER_BYTES = 8,   /* magic, kind, length of the whole frame. */
	HS_HELLO_BYTES = 144,  /* A later version may append; what is appended is proven, too. */
	HS_PROOF_BYTES = HS_HEADER_BYTES + FERRY_PROOF_BYTES,
	HS_WELCOME_FIELDS_BYTES = 16,
	HS_WELCOME_BYTES = HS_HEADER_BYTES + HS_WELCOME_FIELDS_BYTES + FERRY_PROOF_BYTES,
	HS_REFUSED_BYTES = HS_HEADER_BYTES + 8,
	HS_LABEL_BYTES = 16,
	HS_PROVEN_BYTES_MAX =
		HS_LABEL_BYTES + 2 * FERRY_HANDSHAKE_FRAME_BYTES_MAX + HS_WELCOME_FIELDS_BYTES,
};

_Static_assert(HS_HEADER_BYTES + 2 + 2 + 4 + 8 + 4 + 4 + 8 + 8 + FERRY_NONCE_BYTES +
			       FERRY_CLUSTER_NAME_MAX ==
		       HS_HELLO_BYTES,
	       "layout");
_Static_assert(HS_HELLO_BYTES <= (int)FERRY_HANDSHAKE_FRAME_BYTES_MAX, "room for later fields");

/* On the wire. A connector's HELLO is no acceptor's: nothing can be reflected. */
enum hs_kind {
	HS_HELLO_CONNECTOR = 1,
	HS_HELLO_ACCEPTOR,
	HS_PROOF_ACCEPTOR,
	HS_PROOF_CONNECTOR,
	HS_WELCOME,
	HS_REFUSED,
};

/* What the next frame must be (or REFUSED). */
enum hs_step {
	HS_STEP_HELLO = 1,
	HS_STEP_PROOF,
	HS_STEP_WELCOME, /* CONNECTOR only. */
	HS_STEP_OVER,
};

/* Encryption will be the first. */
enum { HS_FEATURES_REQUIRED = 0 };

struct hs_hello {
	uint16_t version_min;
	uint16_t version_max;
	struct ferry_node node;
	struct ferry_incarnation incarnation;
	struct ferry_node wanted;
	uint64_t features_optional;
	uint64_t features_required;
	uint8_t nonce[FERRY_NONCE_BYTES];
	char cluster[FERRY_CLUSTER_NAME_MAX];
};

struct hs_refusal_words {
	int code;
	const char *text;
};

static const struct hs_refusal_words HS_REFUSALS[FERRY_HANDSHAKE_REFUSED_LAST + 1] = {
	[FERRY_HANDSHAKE_REFUSED_GARBAGE] = {-EPROTO, "what came is not a handshake"},
	[FERRY_HANDSHAKE_REFUSED_VERSION] = {-EPROTONOSUPPORT, "no version that both speak"},
	[FERRY_HANDSHAKE_REFUSED_FEATURE] = {-EPROTONOSUPPORT, "a required feature is missing"},
	[FERRY_HANDSHAKE_REFUSED_KEY] = {-EACCES, "the cluster's key differs"},
	[FERRY_HANDSHAKE_REFUSED_CLUSTER] = {-ENXIO, "the cluster's name differs"},
	[FERRY_HANDSHAKE_REFUSED_NODE] = {-ENXIO, "another node than the wanted one"},
	[FERRY_HANDSHAKE_REFUSED_MEMBER] = {-EACCES, "not a current member of the cluster"},
	[FERRY_HANDSHAKE_REFUSED_TROUBLE] = {-EIO, "trouble at that end: see its log"},
};

static void frame_begin(struct ferry_writer *writer, enum hs_kind kind, uint32_t length_bytes)
{
	ferry_assert(length_bytes <= FERRY_HANDSHAKE_FRAME_BYTES_MAX);
	ferry_writer_u32(writer, HS_MAGIC);
	ferry_writer_u16(writer, (uint16_t)kind);
	ferry_writer_u16(writer, (uint16_t)length_bytes);
}

/* This end refuses: @ret gets the REFUSED, the caller its error. */
static int refuse(struct ferry_handshake *handshake, enum ferry_handshake_refusal refusal,
		  uint8_t *ret, uint32_t *ret_bytes)
{
	struct ferry_writer writer = ferry_writer_make(ret, HS_REFUSED_BYTES);

	ferry_assert(refusal >= FERRY_HANDSHAKE_REFUSED_GARBAGE);
	ferry_assert(refusal <= FERRY_HANDSHAKE_REFUSED_LAST);
	handshake->state = FERRY_HANDSHAKE_FAILED;
	handshake->step = HS_STEP_OVER;
	frame_begin(&writer, HS_REFUSED, HS_REFUSED_BYTES);
	ferry_writer_u32(&writer, refusal);
	ferry_writer_u16(&writer, FERRY_WIRE_VERSION); /* For the other end's log. */
	ferry_writer_u16(&writer, FERRY_WIRE_VERSION);
	*ret_bytes = HS_REFUSED_BYTES;
	return HS_REFUSALS[refusal].code;
}

static int refuse_garbage(struct ferry_handshake *handshake, uint8_t *ret, uint32_t *ret_bytes,
			  struct ferry_error *reterr, const char *what)
{
	int r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_GARBAGE, ret, ret_bytes);

	return ferry_error_set(reterr, r, "this is no Ferry agent's handshake: %s", what);
}

bool ferry_handshake_cluster_is_valid(const char name[FERRY_CLUSTER_NAME_MAX])
{
	size_t length = strnlen(name, FERRY_CLUSTER_NAME_MAX);

	if (length == 0 || length == FERRY_CLUSTER_NAME_MAX)
		return false;
	for (size_t i = 0; i < FERRY_CLUSTER_NAME_MAX; i++) {
		if (i < length ? name[i] < ' ' || name[i] > '~' : name[i] != '\0')
			return false;
	}
	return true;
}

static void hello_encode(const struct ferry_handshake *handshake, struct ferry_node wanted,
			 const uint8_t nonce[FERRY_NONCE_BYTES], uint8_t ret[HS_HELLO_BYTES])
{
	const struct ferry_handshake_config *config = &handshake->config;
	struct ferry_writer writer = ferry_writer_make(ret, HS_HELLO_BYTES);

	frame_begin(&writer,
		    config->role == FERRY_HANDSHAKE_CONNECTOR ? HS_HELLO_CONNECTOR
							      : HS_HELLO_ACCEPTOR,
		    HS_HELLO_BYTES);
	ferry_writer_u16(&writer, FERRY_WIRE_VERSION); /* The lowest that we speak ... */
	ferry_writer_u16(&writer, FERRY_WIRE_VERSION); /* ... and the highest. */
	ferry_writer_u32(&writer, config->self.v);
	ferry_writer_u64(&writer, config->incarnation.v);
	ferry_writer_u32(&writer, wanted.v);
	ferry_writer_zeroes(&writer, sizeof(uint32_t));
	ferry_writer_u64(&writer, config->features);
	ferry_writer_u64(&writer, HS_FEATURES_REQUIRED);
	ferry_writer_bytes(&writer, nonce, FERRY_NONCE_BYTES);
	ferry_writer_bytes(&writer, config->cluster, FERRY_CLUSTER_NAME_MAX);
	ferry_assert(writer.offset_bytes == HS_HELLO_BYTES);
}

/* Shape only: what the values mean is judged when the key has been proven. */
static bool hello_decode(const uint8_t *bytes, uint32_t length_bytes, struct hs_hello *ret)
{
	struct ferry_reader reader = ferry_reader_make(bytes, length_bytes);
	bool is_reserved_zero;

	(void)ferry_reader_take(&reader, HS_HEADER_BYTES);
	ret->version_min = ferry_reader_u16(&reader);
	ret->version_max = ferry_reader_u16(&reader);
	ret->node.v = ferry_reader_u32(&reader);
	ret->incarnation.v = ferry_reader_u64(&reader);
	ret->wanted.v = ferry_reader_u32(&reader);
	is_reserved_zero = ferry_reader_zeroes(&reader, sizeof(uint32_t));
	ret->features_optional = ferry_reader_u64(&reader);
	ret->features_required = ferry_reader_u64(&reader);
	ferry_reader_bytes(&reader, ret->nonce, sizeof(ret->nonce));
	ferry_reader_bytes(&reader, ret->cluster, sizeof(ret->cluster));
	if (reader.has_failed || !is_reserved_zero)
		return false;
	return ret->version_min > 0 && ret->version_min <= ret->version_max && ret->node.v > 0 &&
	       ret->incarnation.v > 0 && ret->wanted.v > 0 &&
	       ferry_handshake_cluster_is_valid(ret->cluster);
}

/* HMAC over a label, both HELLOs (each says its own length) and, for WELCOME, its fields. */
static int prove(struct ferry_handshake *handshake, const char *label, const uint8_t *fields,
		 uint32_t fields_bytes, uint8_t ret[FERRY_PROOF_BYTES])
{
	uint8_t bytes[HS_PROVEN_BYTES_MAX];
	char padded[HS_LABEL_BYTES] = {};
	struct ferry_writer writer = ferry_writer_make(bytes, sizeof(bytes));

	ferry_assert(strlen(label) < sizeof(padded));
	ferry_assert(handshake->hello_connector_bytes > 0 && handshake->hello_acceptor_bytes > 0);
	memcpy(padded, label, strlen(label));
	ferry_writer_bytes(&writer, padded, sizeof(padded));
	ferry_writer_bytes(&writer, handshake->hello_connector, handshake->hello_connector_bytes);
	ferry_writer_bytes(&writer, handshake->hello_acceptor, handshake->hello_acceptor_bytes);
	if (fields)
		ferry_writer_bytes(&writer, fields, fields_bytes);
	return handshake->config.auth->ops->prove(handshake->config.auth, bytes,
						  writer.offset_bytes, ret);
}

static const char *proof_label(enum hs_kind kind)
{
	return kind == HS_PROOF_ACCEPTOR ? "acceptor" : "connector";
}

static int proof_send(struct ferry_handshake *handshake, enum hs_kind kind, uint8_t *ret,
		      uint32_t *ret_bytes)
{
	struct ferry_writer writer = ferry_writer_make(ret, HS_PROOF_BYTES);
	uint8_t proof[FERRY_PROOF_BYTES];
	int r;

	r = prove(handshake, proof_label(kind), NULL, 0, proof);
	if (r < 0)
		return r;
	frame_begin(&writer, kind, HS_PROOF_BYTES);
	ferry_writer_bytes(&writer, proof, sizeof(proof));
	*ret_bytes += HS_PROOF_BYTES;
	return 0;
}

static int refuse_trouble(struct ferry_handshake *handshake, uint8_t *ret, uint32_t *ret_bytes,
			  struct ferry_error *reterr)
{
	int r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_TROUBLE, ret, ret_bytes);

	return ferry_error_set(reterr, r, "cannot make a random number or a digest");
}

static int read_key_proof(struct ferry_handshake *handshake, enum hs_kind kind,
			  const char *peer_cluster, uint8_t *ret, uint32_t *ret_bytes,
			  struct ferry_error *reterr)
{
	uint8_t expected[FERRY_PROOF_BYTES];
	int r;

	ferry_assert(handshake->frame_bytes == HS_PROOF_BYTES);
	r = prove(handshake, proof_label(kind), NULL, 0, expected);
	if (r < 0)
		return refuse_trouble(handshake, ret, ret_bytes, reterr);
	if (ferry_proof_equal(expected, handshake->frame + HS_HEADER_BYTES))
		return 0;
	r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_KEY, ret, ret_bytes);
	return ferry_error_set(reterr, r,
			       "the peer does not hold this cluster's key (it says that its cluster"
			       " is '%s'): is the key file the same on each node?",
			       peer_cluster);
}

/* The peer has proven itself. Is it of our cluster, the node that was meant, and a member? */
static int judge_peer(struct ferry_handshake *handshake, const struct hs_hello *theirs,
		      uint8_t *ret, uint32_t *ret_bytes, struct ferry_error *reterr)
{
	const struct ferry_handshake_config *config = &handshake->config;
	bool is_connector = config->role == FERRY_HANDSHAKE_CONNECTOR;
	int r;

	if (memcmp(theirs->cluster, config->cluster, FERRY_CLUSTER_NAME_MAX) != 0) {
		r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_CLUSTER, ret, ret_bytes);
		return ferry_error_set(reterr, r, "the peer is of cluster '%s', we are of '%s'",
				       theirs->cluster, config->cluster);
	}
	if (theirs->wanted.v != config->self.v || theirs->node.v == config->self.v ||
	    (is_connector && theirs->node.v != config->wanted.v)) {
		r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_NODE, ret, ret_bytes);
		return ferry_error_set(reterr, r,
				       "we are node %" PRIu32 "; the peer is node %" PRIu32
				       " and speaks to node %" PRIu32 ": is its address right?",
				       config->self.v, theirs->node.v, theirs->wanted.v);
	}
	if (!is_connector && !config->is_member(theirs->node, config->context)) {
		r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_MEMBER, ret, ret_bytes);
		return ferry_error_set(reterr, r, "node %" PRIu32 " is not a current member",
				       theirs->node.v);
	}
	handshake->peer = theirs->node;
	handshake->peer_incarnation = theirs->incarnation;
	return 0;
}

/* Version and features are agreed upon before the proof, which then covers them. */
static int agree(struct ferry_handshake *handshake, const struct hs_hello *theirs, uint8_t *ret,
		 uint32_t *ret_bytes, struct ferry_error *reterr)
{
	uint64_t unknown = theirs->features_required & ~handshake->config.features;
	uint64_t offered = theirs->features_optional | theirs->features_required;
	int r;

	if (theirs->version_min > FERRY_WIRE_VERSION || theirs->version_max < FERRY_WIRE_VERSION) {
		r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_VERSION, ret, ret_bytes);
		return ferry_error_set(reterr, r,
				       "the peer speaks versions %u to %u, we speak %d: is one of "
				       "the agents older than its cluster?",
				       theirs->version_min, theirs->version_max,
				       FERRY_WIRE_VERSION);
	}
	if (unknown != 0 || ((uint64_t)HS_FEATURES_REQUIRED & ~offered) != 0) {
		r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_FEATURE, ret, ret_bytes);
		return ferry_error_set(reterr, r,
				       "the peer requires features %#" PRIx64 " that we lack, or "
				       "lacks one that we require",
				       unknown);
	}
	handshake->version = FERRY_WIRE_VERSION;
	handshake->features = offered & handshake->config.features;
	return 0;
}

static void hello_keep(struct ferry_handshake *handshake, enum ferry_handshake_role role,
		       const uint8_t *bytes, uint32_t length_bytes)
{
	ferry_assert(length_bytes <= FERRY_HANDSHAKE_FRAME_BYTES_MAX);
	if (role == FERRY_HANDSHAKE_CONNECTOR) {
		memcpy(handshake->hello_connector, bytes, length_bytes);
		handshake->hello_connector_bytes = length_bytes;
	} else {
		memcpy(handshake->hello_acceptor, bytes, length_bytes);
		handshake->hello_acceptor_bytes = length_bytes;
	}
}

static int hello_send(struct ferry_handshake *handshake, struct ferry_node wanted, uint8_t *ret,
		      uint32_t *ret_bytes)
{
	struct ferry_auth *auth = handshake->config.auth;
	uint8_t nonce[FERRY_NONCE_BYTES];
	int r;

	r = auth->ops->random(auth, nonce, sizeof(nonce));
	if (r < 0)
		return r;
	hello_encode(handshake, wanted, nonce, ret);
	hello_keep(handshake, handshake->config.role, ret, HS_HELLO_BYTES);
	*ret_bytes += HS_HELLO_BYTES;
	return 0;
}

static int read_hello(struct ferry_handshake *handshake, uint8_t *ret, uint32_t *ret_bytes,
		      struct ferry_error *reterr)
{
	bool is_acceptor = handshake->config.role == FERRY_HANDSHAKE_ACCEPTOR;
	struct hs_hello theirs;
	int r;

	if (!hello_decode(handshake->frame, handshake->frame_bytes, &theirs))
		return refuse_garbage(handshake, ret, ret_bytes, reterr, "an invalid hello");
	r = agree(handshake, &theirs, ret, ret_bytes, reterr);
	if (r < 0)
		return r;
	hello_keep(handshake, is_acceptor ? FERRY_HANDSHAKE_CONNECTOR : FERRY_HANDSHAKE_ACCEPTOR,
		   handshake->frame, handshake->frame_bytes);
	handshake->step = HS_STEP_PROOF;
	if (!is_acceptor)
		return 0;
	r = hello_send(handshake, theirs.node, ret, ret_bytes);
	if (r >= 0)
		r = proof_send(handshake, HS_PROOF_ACCEPTOR, ret + *ret_bytes, ret_bytes);
	return r < 0 ? refuse_trouble(handshake, ret, ret_bytes, reterr) : 0;
}

static void welcome_fields(const struct ferry_handshake *handshake,
			   uint8_t ret[HS_WELCOME_FIELDS_BYTES])
{
	struct ferry_writer writer = ferry_writer_make(ret, HS_WELCOME_FIELDS_BYTES);

	ferry_writer_u32(&writer, handshake->version);
	ferry_writer_zeroes(&writer, sizeof(uint32_t));
	ferry_writer_u64(&writer, handshake->features);
	ferry_assert(writer.offset_bytes == HS_WELCOME_FIELDS_BYTES);
}

static int welcome_send(struct ferry_handshake *handshake, uint8_t *ret, uint32_t *ret_bytes)
{
	struct ferry_writer writer = ferry_writer_make(ret, HS_WELCOME_BYTES);
	uint8_t fields[HS_WELCOME_FIELDS_BYTES];
	uint8_t proof[FERRY_PROOF_BYTES];
	int r;

	welcome_fields(handshake, fields);
	r = prove(handshake, "welcome", fields, sizeof(fields), proof);
	if (r < 0)
		return r;
	frame_begin(&writer, HS_WELCOME, HS_WELCOME_BYTES);
	ferry_writer_bytes(&writer, fields, sizeof(fields));
	ferry_writer_bytes(&writer, proof, sizeof(proof));
	*ret_bytes += HS_WELCOME_BYTES;
	return 0;
}

static int read_proof(struct ferry_handshake *handshake, uint8_t *ret, uint32_t *ret_bytes,
		      struct ferry_error *reterr)
{
	bool is_acceptor = handshake->config.role == FERRY_HANDSHAKE_ACCEPTOR;
	struct hs_hello theirs;
	bool is_hello;
	int r;

	is_hello = is_acceptor ? hello_decode(handshake->hello_connector,
					      handshake->hello_connector_bytes, &theirs)
			       : hello_decode(handshake->hello_acceptor,
					      handshake->hello_acceptor_bytes, &theirs);
	ferry_assert(is_hello); /* read_hello() kept nothing else. */
	r = read_key_proof(handshake, is_acceptor ? HS_PROOF_CONNECTOR : HS_PROOF_ACCEPTOR,
			   theirs.cluster, ret, ret_bytes, reterr);
	if (r < 0)
		return r;
	r = judge_peer(handshake, &theirs, ret, ret_bytes, reterr);
	if (r < 0)
		return r;
	r = is_acceptor ? welcome_send(handshake, ret, ret_bytes)
			: proof_send(handshake, HS_PROOF_CONNECTOR, ret, ret_bytes);
	if (r < 0)
		return refuse_trouble(handshake, ret, ret_bytes, reterr);
	handshake->step = is_acceptor ? HS_STEP_OVER : HS_STEP_WELCOME;
	if (is_acceptor)
		handshake->state = FERRY_HANDSHAKE_COMPLETE;
	return 0;
}

static int read_welcome(struct ferry_handshake *handshake, uint8_t *ret, uint32_t *ret_bytes,
			struct ferry_error *reterr)
{
	uint8_t fields[HS_WELCOME_FIELDS_BYTES];
	uint8_t expected[FERRY_PROOF_BYTES];
	const uint8_t *body = handshake->frame + HS_HEADER_BYTES;
	int r;

	ferry_assert(handshake->frame_bytes == HS_WELCOME_BYTES);
	welcome_fields(handshake, fields); /* It can only say what we have worked out as well. */
	r = prove(handshake, "welcome", fields, sizeof(fields), expected);
	if (r < 0)
		return refuse_trouble(handshake, ret, ret_bytes, reterr);
	if (memcmp(fields, body, sizeof(fields)) != 0 ||
	    !ferry_proof_equal(expected, body + sizeof(fields))) {
		r = refuse(handshake, FERRY_HANDSHAKE_REFUSED_KEY, ret, ret_bytes);
		return ferry_error_set(reterr, r, "the peer's welcome is not genuine");
	}
	handshake->step = HS_STEP_OVER;
	handshake->state = FERRY_HANDSHAKE_COMPLETE;
	return 0;
}

/* The other end refuses. Nothing is answered. */
static int read_refused(struct ferry_handshake *handshake, struct ferry_error *reterr)
{
	struct ferry_reader reader = ferry_reader_make(handshake->frame, handshake->frame_bytes);
	uint32_t refusal, version_min, version_max;

	(void)ferry_reader_take(&reader, HS_HEADER_BYTES);
	refusal = ferry_reader_u32(&reader);
	version_min = ferry_reader_u16(&reader);
	version_max = ferry_reader_u16(&reader);
	ferry_assert(!reader.has_failed);
	handshake->state = FERRY_HANDSHAKE_FAILED;
	handshake->step = HS_STEP_OVER;
	if (refusal == 0 || refusal > FERRY_HANDSHAKE_REFUSED_LAST)
		return ferry_error_set(reterr, -EPROTO,
				       "the peer refuses us for a reason that we do not know (%u)",
				       refusal);
	return ferry_error_set(reterr, HS_REFUSALS[refusal].code,
			       "the peer refuses us: %s (it speaks versions %u to %u)",
			       HS_REFUSALS[refusal].text, version_min, version_max);
}

/* The kind of frame that this end waits for. */
static enum hs_kind expected_kind(const struct ferry_handshake *handshake)
{
	bool is_acceptor = handshake->config.role == FERRY_HANDSHAKE_ACCEPTOR;

	if (handshake->step == HS_STEP_HELLO)
		return is_acceptor ? HS_HELLO_CONNECTOR : HS_HELLO_ACCEPTOR;
	if (handshake->step == HS_STEP_PROOF)
		return is_acceptor ? HS_PROOF_CONNECTOR : HS_PROOF_ACCEPTOR;
	ferry_assert(handshake->step == HS_STEP_WELCOME && !is_acceptor);
	return HS_WELCOME;
}

/* The frame's length, or 0: this is not a frame that may come now. */
static uint32_t frame_length(const struct ferry_handshake *handshake)
{
	struct ferry_reader reader = ferry_reader_make(handshake->frame, HS_HEADER_BYTES);
	uint32_t magic = ferry_reader_u32(&reader);
	uint32_t kind = ferry_reader_u16(&reader);
	uint32_t length_bytes = ferry_reader_u16(&reader);

	if (magic != HS_MAGIC)
		return 0;
	if (kind == HS_REFUSED)
		return length_bytes == HS_REFUSED_BYTES ? length_bytes : 0;
	if (kind != expected_kind(handshake))
		return 0;
	if (kind == HS_HELLO_CONNECTOR || kind == HS_HELLO_ACCEPTOR)
		return length_bytes >= HS_HELLO_BYTES &&
				       length_bytes <= FERRY_HANDSHAKE_FRAME_BYTES_MAX
			       ? length_bytes
			       : 0;
	if (kind == HS_WELCOME)
		return length_bytes == HS_WELCOME_BYTES ? length_bytes : 0;
	return length_bytes == HS_PROOF_BYTES ? length_bytes : 0;
}

uint32_t ferry_handshake_wants(const struct ferry_handshake *handshake)
{
	ferry_assert(handshake);
	if (handshake->state != FERRY_HANDSHAKE_RUNNING)
		return 0;
	if (handshake->frame_bytes < HS_HEADER_BYTES)
		return HS_HEADER_BYTES;
	ferry_assert(frame_length(handshake) > HS_HEADER_BYTES);
	return frame_length(handshake) - HS_HEADER_BYTES;
}

int ferry_handshake_start(struct ferry_handshake *handshake,
			  const struct ferry_handshake_config *config, uint8_t *ret,
			  uint32_t *ret_bytes, struct ferry_error *reterr)
{
	int r;

	ferry_assert(handshake && config && ret && ret_bytes);
	ferry_assert(config->auth && config->auth->ops);
	ferry_assert(config->self.v > 0 && config->incarnation.v > 0);
	ferry_assert(ferry_handshake_cluster_is_valid(config->cluster));
	ferry_assert(config->role == FERRY_HANDSHAKE_CONNECTOR ? config->wanted.v > 0
							       : config->is_member != NULL);
	*handshake = (struct ferry_handshake){
		.config = *config, .state = FERRY_HANDSHAKE_RUNNING, .step = HS_STEP_HELLO};
	*ret_bytes = 0;
	if (config->role == FERRY_HANDSHAKE_ACCEPTOR)
		return 0;
	r = hello_send(handshake, config->wanted, ret, ret_bytes);
	if (r < 0) {
		handshake->state = FERRY_HANDSHAKE_FAILED;
		return ferry_error_set(reterr, -EIO, "cannot make a random number");
	}
	return 0;
}

int ferry_handshake_read(struct ferry_handshake *handshake, const uint8_t *bytes, uint8_t *ret,
			 uint32_t *ret_bytes, struct ferry_error *reterr)
{
	uint32_t wants = ferry_handshake_wants(handshake);
	int r;

	ferry_assert(bytes && ret && ret_bytes);
	ferry_assert(wants > 0);
	ferry_assert(wants <= sizeof(handshake->frame) - handshake->frame_bytes);
	*ret_bytes = 0;
	memcpy(handshake->frame + handshake->frame_bytes, bytes, wants);
	handshake->frame_bytes += wants;
	if (handshake->frame_bytes == HS_HEADER_BYTES) {
		if (frame_length(handshake) > 0)
			return 0;
		return refuse_garbage(handshake, ret, ret_bytes, reterr, "not the next frame");
	}
	if (handshake->frame_bytes == HS_REFUSED_BYTES) /* No other frame is as short. */
		r = read_refused(handshake, reterr);
	else if (handshake->step == HS_STEP_HELLO)
		r = read_hello(handshake, ret, ret_bytes, reterr);
	else if (handshake->step == HS_STEP_PROOF)
		r = read_proof(handshake, ret, ret_bytes, reterr);
	else
		r = read_welcome(handshake, ret, ret_bytes, reterr);
	handshake->frame_bytes = 0;
	return r;
}

int ferry_handshake_secret(struct ferry_handshake *handshake, uint8_t ret[FERRY_PROOF_BYTES])
{
	ferry_assert(handshake && ret);
	ferry_assert(handshake->state == FERRY_HANDSHAKE_COMPLETE);
	return prove(handshake, "secret", /* fields= */ NULL, 0, ret);
}
