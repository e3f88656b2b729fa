/*
 * registrants.h - which nexus is registered with which key: READ FULL STATUS (SPC-4, 6.15.5).
 *
 * Pure: bytes in, facts out; bytes are the target's and are never trusted.
 *
 * Owns:    nothing.
 * Callers: fence.c of this folder.
 * Thread:  any.
 * Rooms:   adapters/iscsi only.
 */
#pragma once

#include "agent/ports/fence.h"

enum {
	FERRY_ISCSI_INITIATOR_BYTES = 224,
	/*
	 * The ISID's type is "random" (RFC 7143, 11.12.5), for Ferry has no enterprise number; it
	 * is fixed all the same, so that a nexus keeps its name and its registration.
	 */
	FERRY_ISCSI_ISID = 0xfe4419,
};

struct ferry_iscsi_registrant {
	struct ferry_key key;
	uint16_t target_port; /* Relative identifier: the portal group that it is logged in to. */
	bool has_name;	      /* An iSCSI initiator port with an ISID of ours. */
	uint16_t qualifier;   /* Of the ISID. */
	char initiator[FERRY_ISCSI_INITIATOR_BYTES];
};

struct ferry_iscsi_registrants {
	struct ferry_iscsi_registrant rows[FERRY_KEYS_MAX];
	uint32_t count;
};

/* -EBADMSG: cut off, senseless, or more than a cluster of ours has; @ret is then partly written. */
int ferry_iscsi_registrants_parse(const uint8_t *data, size_t length_bytes,
				  struct ferry_iscsi_registrants *ret);

/* Take over what is news in @from: one row for each node. */
void ferry_iscsi_registrants_merge(struct ferry_iscsi_registrants *into,
				   const struct ferry_iscsi_registrants *from);

/* The nexus that @key is or was registered for, or NULL: not seen. */
const struct ferry_iscsi_registrant *
ferry_iscsi_registrants_find(const struct ferry_iscsi_registrants *all, struct ferry_key key);
