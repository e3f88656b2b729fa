/*
 * sim_rdma.h - RDMA between agents, as adapters/verbs does it: the peer's network card reads a
 * WRITE's data from the requester's memory, and writes a READ's into the room for it, at a time of
 * its own: perhaps long after the requester's timeout, and until the requester's end says that it
 * is down, for only then are the keys dead (design, rule 9).
 *
 * What is in memory that was offered counts at that time, and not when it was offered: whoever
 * used it again too early has written something else, or has it overwritten.
 *
 * Owns:    memory that is open to a peer (a hold), and what is counted of it.
 * Callers: sim_link, whose messages these are; sim_chaos draws.
 * Thread:  one: network cards work while their nodes are frozen.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/link.h"
#include "tests/sim/sim_loop.h"

/* Data of up to this goes with the message. */
enum { SIM_RDMA_INLINE_BYTES = 512 };

/* What is drawn has a generator of its own: seeds without RDMA are what they were before. */
struct sim_rdma {
	struct ferry_prng prng;
	uint32_t links_per_mille; /* Of new connections; the others are as TCP. 0: all are. */
	uint32_t late_per_mille;  /* Of transfers... */
	uint64_t late_ns_max;	  /* ...which take up to this. */
	uint64_t death_ns_max;	  /* From a connection's end to its keys'. */
	uint64_t timeout_ns;	  /* The requesters': what comes later is counted as late. */
	uint64_t reads;		  /* By a peer, from the requester's memory. */
	uint64_t writes;	  /* Into it. */
	uint64_t late_reads;
	uint64_t late_writes;
	uint64_t cut; /* Of both: the requester's end was cut already, its keys alive. */
};

enum sim_hold_kind {
	SIM_HOLD_OFFER = 1, /* The peer reads it. */
	SIM_HOLD_ROOM,	    /* The peer writes to it. */
	SIM_HOLD_SOURCE,    /* This node's own card reads it, to write it into the peer's room. */
};

struct sim_link;
struct sim_packet;

/* A message whose sender has not got its memory back. */
struct sim_hold {
	struct ferry_list in_link; /* link->holds. */
	struct sim_link *link;
	enum sim_hold_kind kind;
	struct ferry_message *message;
	struct ferry_segments segments; /* As they were said: the card asks nobody again. */
	uint64_t sequence;
	uint64_t since_ns;
	struct sim_packet *packet;    /* What is about it, on its way; or NULL. */
	struct sim_input close_input; /* The peer is done with it: its sender hears of that. */
	uint8_t *stray;		      /* ROOM: on its way when the connection was cut; or NULL. */
	uint32_t stray_bytes;
};

/* A seed's: whether, how late, how long keys live. */
void sim_rdma_draw(struct sim_rdma *rdma, uint64_t seed, uint64_t timeout_ns);

/* Whether a new connection is one. */
bool sim_rdma_is_drawn(struct sim_rdma *rdma);
/* How long the next transfer takes. */
uint64_t sim_rdma_move_ns(struct sim_rdma *rdma);
uint64_t sim_rdma_death_ns(struct sim_rdma *rdma);

/* @message has become @packet: whether its sender gets its memory back only later. */
bool sim_rdma_hold(struct sim_link *link, struct ferry_message *message, struct sim_packet *packet);

/*
 * What @packet is about is moved, now: to it from the one end's memory; and, if that is an answer's
 * data, on to the other's. False: the keys are dead.
 */
bool sim_rdma_move(struct sim_packet *packet);

/* @packet will not be moved any more: of an answer's data some may be on its way all the same. */
void sim_rdma_cut(struct sim_packet *packet);
/* Its sender's memory is about to go: what is still to be moved is what it is now. */
void sim_rdma_capture(struct sim_packet *packet);

/* The answer to @sequence is here: nobody writes to its room any more, which is its sender's. */
void sim_rdma_answered(struct sim_link *link, uint64_t sequence);

/* The link is down: what is on its way lands, then all keys die, then each hold's sender hears. */
void sim_rdma_down(struct sim_link *link);
/* The agent has ended: its memory is gone, and nobody is told. */
void sim_rdma_forget(struct sim_link *link);
