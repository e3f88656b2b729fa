/*
 * iscsi.h - a lun over iSCSI: a local path and the fence port, by libiscsi's asynchronous calls.
 *
 * One session to one lun. It logs in by itself, again and again, verifies each time that the lun
 * is the same, and never lets the library reconnect or time commands out behind our back: the
 * router decides about deadlines and calls the path's reset(). Only a session that nothing goes by
 * looks after itself (idle.c).
 *
 * Owns:    the session, its socket, the commands in flight.
 * Callers: agent/main wiring; the router and the engine through the ports.
 * Thread:  the pool's data loop, every call and callback.
 * Rooms:   libiscsi. Ferry's process must ignore SIGPIPE: the library writes with writev(2).
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/events.h"
#include "agent/ports/fence.h"
#include "agent/ports/identity.h"
#include "agent/ports/loop.h"
#include "agent/ports/path.h"

enum {
	FERRY_ISCSI_DEPTH_DEFAULT = 64,
	FERRY_ISCSI_DEPTH_MAX = 256,
	FERRY_ISCSI_NAME_MAX = 223, /* RFC 7143, 4.2.7.1. */
	FERRY_ISCSI_PORTAL_MAX = 63,
	FERRY_ISCSI_SECRET_MAX = 255,
	FERRY_ISCSI_LUN_MAX = 16383,
};

/* When a unit attention was seen. */
enum ferry_iscsi_when {
	FERRY_ISCSI_AT_LOGIN = 1, /* Every new session has some: says nothing by itself. */
	FERRY_ISCSI_AT_IO,	  /* While the path was up: something happened to the lun. */
	FERRY_ISCSI_AT_OWN_RESET, /* 29h while or after this very adapter reset the lun. */
};

struct ferry_iscsi_unit_attention {
	uint8_t asc;
	uint8_t ascq;
	enum ferry_iscsi_when when;
};

/* Strings are copied at open. 0 and NULL mean the default, or none. */
struct ferry_iscsi_config {
	struct ferry_loop *loop;
	struct ferry_events *events; /* May be NULL. */
	struct ferry_node node;	     /* This node's: the path's. */
	const char *portal;	     /* "192.0.2.1:3260", "[2001:db8::1]:3260": no names. */
	const char *target;	     /* The target's iSCSI name. */
	const char *initiator;	     /* This node's iSCSI name: one per node. */
	const char *user;	     /* CHAP. */
	const char *password;
	const char *target_user; /* Mutual CHAP: what the target must prove. */
	const char *target_password;
	uint16_t lun;
	uint16_t isid_qualifier; /* Fixed per node and path: the nexus keeps its name. */
	bool is_shared;		 /* Other nodes use the lun, and some may have to be kept out. */
	/*
	 * What the administrator says of this storage, after testing it (docs/fault-model.md); 0:
	 * for targets that tests/target knows what they show, else PREEMPT AND ABORT if there is
	 * one, else the quiesce time if one is promised.
	 */
	enum ferry_laying_way laying;
	uint64_t quiesce_time_ns;     /* Promised for this storage; 0: none. */
	uint32_t depth;		      /* Attempts in flight. */
	uint32_t tcp_user_timeout_ms; /* Default 20 s: behind the router's own deadline. */
	uint64_t login_timeout_ns;    /* Connect to identity verified; default 3 s. */
	uint64_t fence_timeout_ns;    /* Each fence request; default 5 s. */
	/*
	 * An idle session is asked so often whether it lives (NOP-Out), and is lost if it has not
	 * answered within as much again; 0: never.
	 */
	uint64_t idle_timeout_ns;
	struct ferry_lun_identity expect; /* wwid, size or block size, as far as not empty. */

	/* The path's owner, see path.h. on_state() may be NULL, on_room() too. */
	void (*on_state)(struct ferry_path *path, bool is_up, enum ferry_cause cause);
	void (*on_room)(struct ferry_path *path);
	/* Every unit attention that a command met, also where the command was then retried. */
	void (*on_unit_attention)(struct ferry_path *path, struct ferry_iscsi_unit_attention seen);
	void *context; /* path->context. */
};

struct ferry_iscsi;

struct ferry_iscsi_counters {
	uint64_t logins;
	uint64_t login_failures;
	uint64_t sessions_lost;
	uint64_t resets; /* By the path's owner. */
	uint64_t attempts;
	uint64_t outcomes[4]; /* By enum ferry_outcome. */
	uint64_t unsent;
	uint64_t retries_busy;
	uint64_t retries_attention;
	uint64_t attentions_reset; /* 29h, not at login. */
	uint64_t attentions_other;
};

/*
 * Check @config and start logging in. The path comes up later, with on_state(up), and the first
 * failures are in ferry_iscsi_last_error(). -EINVAL: the config, message in @reterr; -ENOMEM.
 */
int ferry_iscsi_open(const struct ferry_iscsi_config *config, struct ferry_iscsi **ret,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Log out, within half a second, and free @iscsi; then @on_closed(@context), never from inside.
 * What is in flight ends first, UNKNOWN or FAILED. No callback but those ends and on_closed().
 */
void ferry_iscsi_close(struct ferry_iscsi *iscsi, void (*on_closed)(void *context), void *context);

struct ferry_path *ferry_iscsi_path(struct ferry_iscsi *iscsi);

/*
 * NULL before the first on_state(up), and where the lun has no persistent reservations.
 *
 * PREEMPT of a victim that is not registered (any more), the lun being reserved: what follows the
 * PREEMPT is done all the same and proves as much (LUN RESET for PREEMPT AND ABORT). -ENOENT if the
 * lun is not reserved.
 * RESET: where PREEMPT would be laid by LUN RESET or by reinstatement; else -EOPNOTSUPP.
 * While a LUN RESET waits for what runs in the target, this path feeds it nothing new. The reset
 * makes every nexus see a unit attention: our own is reported AT_OWN_RESET.
 */
struct ferry_fence *ferry_iscsi_fence(struct ferry_iscsi *iscsi);

/* NULL before the first on_state(up); then the same for good: another lun never comes up. */
const struct ferry_lun_identity *ferry_iscsi_identity(const struct ferry_iscsi *iscsi);

/*
 * Whether a PREEMPT is proven by LUN RESET here. Then a 29h on a session that lives on is
 * somebody's LUN RESET, which loses no cache: such a target, restarted, drops its sessions. Valid
 * once up.
 */
bool ferry_iscsi_lays_by_reset(const struct ferry_iscsi *iscsi);

/* Why the path is down, or why it was; "" if it never was. For people. */
const char *ferry_iscsi_last_error(const struct ferry_iscsi *iscsi);

const struct ferry_iscsi_counters *ferry_iscsi_counters(const struct ferry_iscsi *iscsi);
