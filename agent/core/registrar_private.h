/*
 * registrar_private.h - the registrar's insides, shared by its files.
 *
 * Owns:    nothing.
 * Callers: registrar.c (joining, entrances), registrar_take.c, registrar_restart.c.
 * Thread:  the pool's data loop.
 * Rooms:   private to the registrar.
 */
#pragma once

#include "agent/core/key.h"
#include "agent/core/keys.h"
#include "agent/core/registrar.h"

static inline struct ferry_lane *ferry_registrar_lane(struct ferry_registrar *registrar)
{
	return ferry_router_local(registrar->config.router);
}

static inline bool ferry_registrar_is_owner(const struct ferry_registrar *registrar)
{
	return registrar->config.view->owner.v == ferry_key_node(registrar->config.own).v;
}

static inline struct ferry_keys ferry_registrar_keys(const struct ferry_registrar *registrar)
{
	return (struct ferry_keys){.keys = registrar->request.keys,
				   .count = registrar->request.keys_count,
				   .holder = registrar->request.holder};
}

/* ---- registrar.c ---- */

void ferry_registrar_emit(struct ferry_registrar *registrar, enum ferry_event_kind kind,
			  enum ferry_severity severity, uint64_t value, const char *text);
void ferry_registrar_retry_later(struct ferry_registrar *registrar);

/* One request at a time; request_done() goes on. */
void ferry_registrar_ask(struct ferry_registrar *registrar, enum ferry_fence_op op,
			 struct ferry_key victim);

/* Register, @times over: each raises the count. */
void ferry_registrar_register(struct ferry_registrar *registrar, uint32_t times);

/* ---- registrar_take.c ---- */

void ferry_registrar_take_finish(struct ferry_registrar *registrar, int error);

/* Whatever step it was at: from the start, once this node is registered again. */
void ferry_registrar_take_again(struct ferry_registrar *registrar);

/* What was asked for the taking is answered. */
void ferry_registrar_take_step(struct ferry_registrar *registrar, int error);

/* The same, and the keys are looked at first. */
void ferry_registrar_take_pause(struct ferry_registrar *registrar, int error);

/* ---- registrar_restart.c: of the keys just read ---- */

bool ferry_registrar_is_first_here(const struct ferry_registrar *registrar);
bool ferry_registrar_shows_restart(const struct ferry_registrar *registrar);

/* In a session that has lived through it: a new one comes back as after any other restart. */
void ferry_registrar_restarted(struct ferry_registrar *registrar);

void ferry_registrar_witness_read(struct ferry_registrar *registrar);
void ferry_registrar_witness_beside(struct ferry_registrar *registrar);
void ferry_registrar_witness_end(struct ferry_registrar *registrar);
void ferry_registrar_witness_note(struct ferry_registrar *registrar);
bool ferry_registrar_owner_knows(struct ferry_registrar *registrar);
void ferry_registrar_note_unseen(struct ferry_registrar *registrar);

/* Look once more: read the keys, and see. */
void ferry_registrar_verify_begin(struct ferry_registrar *registrar);
void ferry_registrar_verify_done(struct ferry_registrar *registrar, int error);
