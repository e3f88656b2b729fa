/*
 * transport_stand.h - node 1's real peer and node 2's real carrier, between them both rooms of
 * agent/transport/ and two links that do what the test says.
 *
 * A link is two halves. What one sends lies in the other's inbox until it is delivered; either half
 * can be cut while the other knows nothing of it.
 *
 * Owns:    all of that; one of each.
 * Callers: transport_test.c, transport_random_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/core/carrier_stand.h"
#include "agent/core/peer.h"
#include "agent/transport/transport.h"

enum { STAND_FRAMES_MAX = 256, STAND_IOS_MAX = 32, STAND_IO_BLOCKS = 2 };

struct stand_frame {
	struct ferry_message *message; /* Its sender's, until that was told. */
	struct ferry_wire_header header;
	uint8_t data[STAND_IO_BLOCKS * STAND_BLOCK_BYTES];
};

struct stand_half {
	struct ferry_link link;
	struct stand_half *far;
	bool is_cut; /* And has not said so. */
	struct stand_frame inbox[STAND_FRAMES_MAX];
	uint32_t inbox_count;
	uint32_t requests; /* That came to here. */
};

struct stand_io {
	struct ferry_attempt attempt;
	enum ferry_outcome outcome; /* 0: it has not ended. */
	enum ferry_cause cause;
	bool is_released;
};

struct transport_stand {
	struct ferry_peer peer;
	struct ferry_peer_path *via;
	struct ferry_outgoing out;
	struct ferry_incoming in;
	struct stand_half tcp[2]; /* Of node 1, of node 2. */
	struct stand_half rdma[2];
	bool is_raised; /* RDMA is to be kept up. */
	uint32_t ups, downs;
	struct stand_io ios[STAND_IOS_MAX];
	uint64_t carried[STAND_ATTEMPTS_MAX]; /* The lba of each that node 2's path was given. */
};

extern struct transport_stand w;

/* Nothing is up. */
int transport_setup(void **state);
int transport_setup_rdma_only(void **state);
/* Each I/O has ended and is released; nothing is left anywhere. */
int transport_teardown(void **state);

/* Made anew, whatever was there before. RDMA: -ENOTCONN if the acceptor refuses. */
void tcp_connect(void);
int rdma_connect(void);

/* This half is over; what it has not delivered is dropped. Says so. */
void cut(struct stand_half *half, const char *why);
void settle(struct stand_half *half);
/* The first that lies in its inbox. False: there is none. */
bool deliver(struct stand_half *half);
/* All of it, and all that follows; a half whose far one is cut learns of it. */
void run(void);

void submit(uint32_t i, enum ferry_op op);
/* How often node 2's path was given I/O @i; the last of these ends well. */
uint32_t carried(uint32_t i);
void carried_done(uint32_t i);
void expect_done(uint32_t i);
