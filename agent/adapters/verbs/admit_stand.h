/*
 * admit_stand.h - two agents, each with both kinds of link to the other: RDMA's is the adapter's,
 * on a made-up device and a made-up rdma_cm; TCP's does what the test says, and vouches. Between
 * them and who asks, agent/transport.
 *
 * Owns:    both agents; who was promised what: each request that was made, and what became of it.
 * Callers: admit_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/adapters/verbs/cm_stand.h"
#include "agent/transport/transport.h"
#include "tests/fuzz/fake_auth.h"

enum {
	WAY_ASKS = 8,	  /* At a time. */
	WAY_ANSWERS = 64, /* On their way. */
	WAY_SEQUENCES = 16384,
	HALF_FRAMES = 128,
	TOKENS_MAX = 4096,
};

/* One end of a TCP connection: in order, and whole. */
struct half {
	struct ferry_link link;
	struct way *way;
	bool is_going_down;
	struct ferry_rdma_secret secret;      /* While it is up. */
	struct ferry_incarnation incarnation; /* The far end's. */
	struct ferry_list sending;
	struct ferry_wire_header frames[HALF_FRAMES]; /* On their way to here. */
	uint32_t frames_first, frames_count;
	struct sim_input work; /* Up, down, a message. */
	bool is_coming_up;
	struct ferry_rdma_secret coming;
};

struct ask {
	struct ferry_message message;
	struct way *way;
	bool is_busy, is_sending;
};

/* How often the owner of a link of the adapter's was told. */
struct told {
	void (*on_up)(struct ferry_link *link, struct ferry_incarnation incarnation);
	void (*on_down)(struct ferry_link *link, const char *why);
	struct ferry_link *link;
	bool is_up;
	uint64_t ups;
};

/* From who asks, 0, to who answers, 1. */
struct way {
	struct agent *agents[2];
	struct half tcp[2];
	struct told rdma[2];
	bool is_up[2]; /* As agent/transport says. */
	struct ferry_outgoing outgoing;
	struct ferry_incoming incoming;
	struct ask asks[WAY_ASKS];
	struct ask answers[WAY_ANSWERS];
	uint64_t sequence;
	uint64_t answered, by_rdma;
	bool is_carried[WAY_SEQUENCES];
};

struct agent {
	uint32_t number;
	uint64_t incarnation;
	bool is_open;
	struct sim_loop loop;
	struct ferry_loop_ops loop_ops; /* And channels that are watched. */
	struct sim_device device;
	struct fake_auth auth;
	struct way *asks, *serves;
	void *memory;
};

/* Why somebody was turned away. */
enum refusal {
	REFUSED_NO_AGENT,
	REFUSED_VERSION,
	REFUSED_IMPOSSIBLE,
	REFUSED_NOT_VOUCHED,
	REFUSED_NOT_PROVEN,
	REFUSED_OLD,
	REFUSED_DEVICE,
	REFUSALS,
};

/* What proves one request. */
struct token {
	uint32_t from;
	uint8_t bytes[FERRY_RDMA_HELLO_BYTES];
	struct ferry_rdma_secret secret;
	bool is_used;
};

struct admit {
	struct sim sim;
	struct agent agents[2];
	struct way ways[2]; /* By who asks. */
	struct token tokens[TOKENS_MAX];
	uint32_t tokens_count;
	const struct token *admitted[2]; /* Of the newest that was accepted, by who did. */
	uint64_t admissions;
	struct ferry_events events;
	uint64_t refusals[REFUSALS];
};

extern struct admit admit;

void admit_open(uint64_t seed);
/* All is closed; nothing is left. */
void admit_close(void);
void agent_open(struct agent *agent);
void agent_close(struct agent *agent);
/* TCP is made, or ends; each end hears of it when it does. */
void tcp_connect(struct way *way);
void tcp_break(struct way *way);
/* One more request. */
void way_ask(struct way *way);
bool way_is_idle(const struct way *way);
