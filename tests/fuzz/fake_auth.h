/*
 * fake_auth.h - the auth port for tests: a keyed digest that is no cryptography, and numbers that
 * one seed determines.
 *
 * Owns:    nothing.
 * Callers: proto's unit tests, tests/fuzz.
 * Thread:  any.
 * Rooms:   tests.
 */
#pragma once

#include "agent/base/prng.h"
#include "agent/ports/auth.h"

struct fake_auth {
	struct ferry_auth auth;
	struct ferry_prng prng;
	uint64_t key;
	bool has_no_random;
	bool has_no_digest;
};

static inline int fake_auth_random(struct ferry_auth *auth, void *ret, size_t length_bytes)
{
	struct fake_auth *fake = FERRY_CONTAINER_OF(auth, struct fake_auth, auth);

	for (size_t i = 0; i < length_bytes; i++)
		((uint8_t *)ret)[i] = (uint8_t)ferry_prng_next(&fake->prng);
	return fake->has_no_random ? -EIO : 0;
}

static inline int fake_auth_prove(struct ferry_auth *auth, const void *bytes, size_t length_bytes,
				  uint8_t ret[FERRY_PROOF_BYTES])
{
	struct fake_auth *fake = FERRY_CONTAINER_OF(auth, struct fake_auth, auth);
	struct ferry_prng prng = {.state = fake->key};

	for (size_t i = 0; i < length_bytes; i++) {
		prng.state ^= ((const uint8_t *)bytes)[i] + 1u;
		prng.state = ferry_prng_next(&prng);
	}
	for (size_t i = 0; i < FERRY_PROOF_BYTES; i++)
		ret[i] = (uint8_t)ferry_prng_next(&prng);
	return fake->has_no_digest ? -EIO : 0;
}

static const struct ferry_auth_ops FAKE_AUTH_OPS = {
	.name = "fake",
	.random = fake_auth_random,
	.prove = fake_auth_prove,
};

static inline void fake_auth_init(struct fake_auth *fake, uint64_t key, uint64_t seed)
{
	*fake = (struct fake_auth){
		.auth = {.ops = &FAKE_AUTH_OPS}, .prng = {.state = seed}, .key = key};
}
