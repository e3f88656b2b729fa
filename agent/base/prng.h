/*
 * prng.h - seeded pseudo-random numbers: SplitMix64 (Steele, Lea, Flood, 2014).
 *
 * Not for secrets: those come from the auth port. One seed gives one sequence, everywhere.
 *
 * Owns:    nothing; the caller holds the state.
 * Callers: core (choice among peers, jitter), tests/sim (each stream of faults).
 * Thread:  the owner's.
 * Rooms:   rank 0.
 */
#pragma once

#include "agent/base/base.h"

struct ferry_prng {
	uint64_t state;
};

static inline uint64_t ferry_prng_next(struct ferry_prng *prng)
{
	uint64_t z = (prng->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* 0..bound-1; the bias for bounds far below 2^64 does not matter here. */
static inline uint64_t ferry_prng_below(struct ferry_prng *prng, uint64_t bound)
{
	ferry_assert(bound > 0);
	return ferry_prng_next(prng) % bound;
}
