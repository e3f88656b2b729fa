/*
 * sim_link.h - the link port: connections between agents that carry encoded headers in order,
 * stall when the network is cut, and may be dead at one end only.
 *
 * Owns:    connections, what is on its way in them, the links that were accepted.
 * Callers: sim_node opens a connector per peer; the core uses the links through the port.
 * Thread:  each end's calls and callbacks run on its node's simulated loop.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/group.h"
#include "agent/ports/link.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_lun.h"
#include "tests/sim/sim_rdma.h"

enum { SIM_LINK_PACKETS_MAX = 32 }; /* In one direction; what more is sent waits. */

struct sim_net;
struct sim_conn;

/* One agent's transport. */
struct sim_transport {
	struct sim_net *net;
	struct sim_loop *loop;
	uint32_t node;
	struct ferry_incarnation incarnation;
	struct ferry_list links; /* Its ends, both kinds. */
	bool (*is_member)(struct sim_transport *transport, uint32_t node);
	/* A proven peer has connected: hand the link to the carrier. */
	int (*accept)(struct sim_transport *transport, struct ferry_link *link,
		      struct ferry_incarnation incarnation);
	void *context;
};

struct sim_link {
	struct ferry_link link;
	struct sim_transport *transport;
	struct ferry_list in_transport;
	bool is_connector;
	struct sim_conn *conn; /* NULL: none, not even a try. */
	int end;	       /* 0 connector, 1 acceptor. */
	struct ferry_list sending;
	struct ferry_list holds; /* Sent, and the peer may still reach their memory. */
	struct sim_input send_input;
	struct sim_input watch_input; /* Connecting, and keeping alive. */
	struct sim_input down_input;
	bool is_going_down;
	bool has_dropped; /* A payload was on its way in when it went down. */
	struct ferry_wire_header dropped_header;
	struct ferry_segments dropped;
	uint64_t heard_ns;
};

struct sim_packet {
	struct ferry_list link;
	uint8_t header[FERRY_WIRE_HEADER_BYTES];
	uint8_t *payload;
	uint32_t payload_bytes;
	bool is_end;	 /* The sender has closed. */
	bool is_by_rdma; /* Its payload: a request's after the header, an answer's before. */
	bool is_moved;
	struct sim_hold *from; /* Where that is; NULL: not there any more. */
	struct sim_hold *to;   /* Of an answer's: where it goes; NULL: nowhere any more. */
	uint64_t arrives_ns;
};

struct sim_direction {
	struct sim_conn *conn;
	int to; /* The end that it leads to. */
	struct ferry_list packets;
	uint32_t packets_count;
	struct sim_input input;	     /* On the receiver's loop. */
	struct sim_event move_event; /* RDMA: on nobody's. */
	struct ferry_segments receiving;
	struct ferry_wire_header header;
	bool is_receiving;
	bool is_paused;
	bool is_closed; /* Nobody receives any more. */
};

struct sim_conn {
	struct sim_net *net;
	struct ferry_list link; /* In net->conns. */
	uint32_t nodes[2];
	struct sim_link *ends[2]; /* NULL once that end is closed. */
	struct ferry_incarnation incarnations[2];
	struct sim_direction directions[2]; /* By the end that they lead to. */
	struct sim_input accept_input;
	struct sim_input up_input;
	bool is_accepted;
	bool is_rdma;
};

struct sim_net {
	struct sim *sim;
	struct sim_transport *transports[SIM_NODES_MAX + 1]; /* NULL: no agent runs there. */
	bool is_cut[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];   /* [from][to] */
	struct ferry_list conns;
	uint64_t latency_ns_max;
	uint64_t delay_ns;	    /* A fault: so much more. */
	uint64_t reconnect_ns;	    /* After a break, and between tries. */
	uint32_t fragile_per_mille; /* Answers at which the connection breaks. */
	uint64_t messages;
	struct sim_rdma rdma;
	/* An answer of @by's comes to @node, which has asked. May be NULL. */
	void (*on_answer)(void *context, uint32_t node, uint32_t by,
			  const struct ferry_wire_header *header);
	void *context;
};

void sim_net_init(struct sim_net *net, struct sim *sim);
void sim_net_done(struct sim_net *net);
void sim_net_cut(struct sim_net *net, uint32_t from, uint32_t to, bool is_cut);
/* Every connection of @node breaks; new ones can be made at once. */
void sim_net_break(struct sim_net *net, uint32_t node);

/* @node's ends of its connections with @other vanish; the other ends do not hear of it. */
void sim_net_half_open(struct sim_net *net, uint32_t node, uint32_t other);

void sim_transport_open(struct sim_transport *transport, struct sim_net *net, struct sim_loop *loop,
			uint32_t node, struct ferry_incarnation incarnation);
/* @is_power_cut: nobody is told; else the kernel closes the connections. */
void sim_transport_crash(struct sim_transport *transport, bool is_power_cut);

/* @node is no member any more: no connection with it stays. */
void sim_transport_forget(struct sim_transport *transport, uint32_t node);

/* Connect to @node, again and again, while both think that the other is a member. */
void sim_link_open(struct sim_link *link, struct sim_transport *transport, uint32_t node);
