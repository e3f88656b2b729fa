/*
 * engine_private.h - the engine's insides, shared by its files.
 *
 * Owns:    nothing.
 * Callers: engine.c (entrances, what the rooms ask of each other), engine_news.c.
 * Thread:  the pool's data loop.
 * Rooms:   private to the engine.
 */
#pragma once

#include "agent/core/engine.h"

/* ---- engine.c ---- */

/* Have dead what went by @lane: the router's wish, and a taker's of its own nexus. */
void ferry_engine_lay(struct ferry_lane *lane, void *context);

/* ---- engine_news.c ---- */

/* Something has changed; posted, so that it runs from a fresh stack. */
void ferry_engine_news(struct ferry_task *task);

/* The lun says that somebody else took this node's registration, or its target forgot it. */
void ferry_engine_registration_lost(struct ferry_engine *engine);

/*
 * Lay what was carried by nodes and agents that are dead, in the storage's queue too (rule 3). Anew
 * with all news: what they were to carry may be given up only after the view has named them.
 */
void ferry_engine_dead_lay(struct ferry_engine *engine);
