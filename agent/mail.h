/*
 * mail.h - what the cluster thread and the data thread tell each other.
 *
 * Two bounded rings of fixed-size messages, one each way. The cluster thread waits a moment when
 * its ring is full. The data thread never waits: it keeps what it could not say as state of the
 * pool concerned, and says the newest of it later; events that find no room are counted.
 *
 * Owns:    the rings.
 * Callers: data.c, cluster.c; main.c makes it.
 * Thread:  each direction has one sender and one receiver.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/spsc.h"
#include "agent/core/tracker.h"
#include "agent/core/view.h"
#include "agent/fault/fault.h"
#include "agent/ports/events.h"
#include "agent/ports/fence.h"
#include "agent/ports/identity.h"

enum { FERRY_MAIL_RING_SLOTS = 1024 };

enum ferry_mail_kind {
	/* To the data thread. */
	FERRY_MAIL_VIEW = 1,  /* view: what the cluster knows of the pool. */
	FERRY_MAIL_TAKE,      /* drained: have the lun to yourself. */
	FERRY_MAIL_PEER_PATH, /* node, flag: whether that peer's own path works. */
	FERRY_MAIL_PEER,      /* node, flag: whether that peer's agent is a member. */
	FERRY_MAIL_SHOW,   /* Offer the pool's volume to applications. epoch: nobody else has owned
			      it since. */
	FERRY_MAIL_HIDE,   /* Withdraw it; its I/O may end first. flag: unless it is used. count:
			      1: what can wait for the next agent stays. */
	FERRY_MAIL_ATTACH, /* Make a block device of the volume, by ublk. */
	FERRY_MAIL_DETACH, /* Remove it. */
	FERRY_MAIL_ADOPT, /* fd: an NBD client of the volume, its handshake over; the receiver's. */
	FERRY_MAIL_FAIL,  /* Fail all I/O that waits: the pool is being released. */
	FERRY_MAIL_CLEAR, /* An administrator has looked at a suspect flush. */
	FERRY_MAIL_KEYS,  /* key: remove it, 0: none; then read the keys. flag: it is foreign. */
	FERRY_MAIL_FAULT, /* plan: make these faults, on a scratch pool. */
	FERRY_MAIL_SNAPSHOT, /* pointer: fill a struct ferry_snapshot. */
	FERRY_MAIL_STOP,

	/* To the cluster thread. */
	FERRY_MAIL_OPENED,    /* identity: the pool's lun is known. flag: it has reservations. */
	FERRY_MAIL_DRAINED,   /* epoch. */
	FERRY_MAIL_TAKEN,     /* error; epoch: that was installed when it was asked for. */
	FERRY_MAIL_HEALTH,    /* flag: this node's own path works. */
	FERRY_MAIL_VERDICT,   /* verdict. */
	FERRY_MAIL_ASK,	      /* count: have the group asked; a view with that word answers. */
	FERRY_MAIL_WITNESS,   /* count: the target was restarted, and the owner has to know; 0: not.
			       */
	FERRY_MAIL_NOTED,     /* count: of view.restarts, so many are noted. */
	FERRY_MAIL_PREEMPTED, /* The owner's registration was taken, not at its wish. */
	FERRY_MAIL_SHOWN,     /* error. */
	FERRY_MAIL_HIDDEN,    /* error: -EBUSY: it is used; users. */
	FERRY_MAIL_KEYS_READ, /* keys; error. */
	FERRY_MAIL_ATTACHED,  /* Also detached. error; text: the device, or why there is none. */
	FERRY_MAIL_NBDDEV,  /* What the kernel's NBD client has left. flag: it goes on; or ends. */
	FERRY_MAIL_EVENT,   /* event. */
	FERRY_MAIL_SNAPPED, /* pointer: it is filled. */
	FERRY_MAIL_STOPPED,
};

/* Who uses a volume on this node. */
struct ferry_users {
	uint32_t clients; /* Of NBD. */
	uint32_t opens;	  /* Of its file; a loop device is one. */
};

/* What a lun says of its registrations. */
struct ferry_mail_keys {
	struct ferry_key keys[FERRY_KEYS_MAX];
	uint32_t count;
	struct ferry_key holder;
	uint32_t generation;
};

struct ferry_mail {
	enum ferry_mail_kind kind;
	uint32_t pool; /* Its index in the configuration. */
	struct ferry_node node;
	bool flag;
	int error;
	uint64_t count; /* ASK: the word. WITNESS, NOTED: see there. SHOWN: lines of the cache that
			   came from the last owner. */
	union {
		struct ferry_view view;
		struct ferry_drained_keys drained;
		struct ferry_lun_identity identity;
		struct ferry_key key;
		struct ferry_mail_keys keys;
		struct ferry_epoch epoch;
		enum ferry_verdict verdict;
		struct ferry_users users;
		struct ferry_event event;
		struct ferry_fault_plan plan;
		char text[FERRY_EVENT_TEXT_MAX];
		int fd;
		void *pointer;
	};
};

struct ferry_mailbox {
	struct ferry_spsc to_data;
	struct ferry_spsc to_cluster;
	void (*wake_data)(void *context); /* Any thread. */
	void *data_context;
	void (*wake_cluster)(void *context);
	void *cluster_context;
	_Atomic uint64_t
		cluster_ran_ns; /* By the cluster loop's clock, which is the data loop's. */
};

size_t ferry_mailbox_memory_bytes(void);
int ferry_mailbox_init(struct ferry_mailbox *mailbox, struct ferry_region *region) FERRY_MUST_CHECK;

/* From the cluster thread; waits, in steps of 100 us, while the data thread is behind. */
void ferry_mail_to_data(struct ferry_mailbox *mailbox, const struct ferry_mail *mail);

/* From the data thread. -EAGAIN: no room now. */
int ferry_mail_to_cluster(struct ferry_mailbox *mailbox,
			  const struct ferry_mail *mail) FERRY_MUST_CHECK;
