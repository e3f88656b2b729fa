/*
 * museum.h - known mistakes, each behind a switch at the very place where its rule is kept, or at
 * all of them.
 *
 * In every build that does anything FERRY_MUSEUM() is the constant false: no code of it is left.
 * Only the museum's own program (tests/museum/, built from the same sources with
 * -DFERRY_MUSEUM_BUILD) can put one mistake in, to show that the simulator finds it out.
 *
 * Owns:    the list of pieces.
 * Callers: ranks 0-3, where the rules are; tests/sim, where a rule is an adapter's; tests/museum.
 * Thread:  any.
 * Rooms:   rank 0.
 */
#pragma once

#include <stdbool.h>

/* Name, the rules of docs/architecture.md or the design that it breaks, and the mistake. */
#define FERRY_MUSEUM_PIECES(PIECE)                                                                 \
	PIECE(TIMEOUT_IS_FAILURE, "1,5", "a write without an answer in time counts as failed")     \
	PIECE(RESET_IS_FAILURE, "1,5", "a write on a lost session counts as failed")               \
	PIECE(BREAK_IS_UNSENT, "1", "a link that breaks counts as a request that never left")      \
	PIECE(PEER_GHOST_FORGOTTEN, "2", "an unknown write by a peer leaves no ghost")             \
	PIECE(CARRIED_GHOST_FORGOTTEN, "2,13", "who carried an unknown write passes for drained")  \
	PIECE(PREEMPT_ONLY, "3", "PREEMPT without ABORT counts as the death of what is queued")    \
	PIECE(FENCED_IS_LAID, "3", "a dead node's writes count as dead in the storage's queue")    \
	PIECE(ABSENT_NOT_ABORTED, "3,13", "what the absent left in flight is not aborted")         \
	PIECE(LAID_TOO_MUCH, "3", "an abort counts for writes that were sent after it, too")       \
	PIECE(OVERLAP, "4", "a write is admitted over a ghost")                                    \
	PIECE(DONE_IS_LAID, "4", "a ghost counts as dead once its write was done elsewhere")       \
	PIECE(FLIGHT_BESIDE_GHOST, "4", "a retry overtakes what was in flight with its ghost")     \
	PIECE(POWER_IS_LAID, "3,14", "a power fencing counts for the quiesce time, too")           \
	PIECE(ELDER_FORGOTTEN, "14", "time proves nothing of what a peer's last agent carried")    \
	PIECE(OLD_FENCING, "14", "a power fencing from before a node came back counts")            \
	PIECE(FROZEN_UNAWARE, "14,15", "an owner that was frozen does not ask who owns")           \
	PIECE(JOINS_UNCUT, "3,13", "a first registration keeps what peers sent before it")         \
	PIECE(REGISTERS_ITSELF, "6,13", "after a conflict a node registers on its own word")       \
	PIECE(EPOCH_UNCHECKED, "7", "a peer carries for whoever asks, in any epoch")               \
	PIECE(CHECKED_ONCE, "7", "a peer looks at receipt only, and forgets what waits")           \
	PIECE(PEER_CACHE, "7", "a peer answers the reads that it carries from its own cache")      \
	PIECE(NO_REPLY_CACHE, "8", "a request asked again is executed again")                      \
	PIECE(REPLY_EVICTED, "8", "a request whose reply was evicted is executed again")           \
	PIECE(SAME_INCARNATION, "8", "an agent that starts anew takes its old incarnation")        \
	PIECE(OLD_KEY_IGNORED, "8", "an older incarnation's writes are not aborted")               \
	PIECE(GIVEN_UP_RESENT, "8", "a new link sends again what was given up")                    \
	PIECE(ASKED_NO_MORE, "8", "where nobody aborts, a lost peer is not asked again")           \
	PIECE(LAID_RESENT, "3,8", "a new link sends again what an abort was asked for")            \
	PIECE(LINK_OUTLIVED, "7,8", "a request that waits at a peer outlives its link")            \
	PIECE(EARLY_REUSE, "9", "memory is used again when an attempt ends, not at its release")   \
	PIECE(OFFER_FORGOTTEN, "9",                                                                \
	      "what a peer was offered is used again before the link gives it back")               \
	PIECE(FLUSH_ONE_PATH, "10",                                                                \
	      "a flush goes to one path, though each has a cache of its own")                      \
	PIECE(LOST_PATH_FORGOTTEN, "10", "what a lost path's cache had is not written anew")       \
	PIECE(FLUSH_FAILURE_FORGOTTEN, "11", "the flush after a failed one succeeds")              \
	PIECE(RESET_FORGOTTEN, "11", "the flush after a target's restart succeeds")                \
	PIECE(RESTART_HIDDEN, "11", "who comes back to a target does not look at its count")       \
	PIECE(RESTART_UNTOLD, "11", "the first at a restarted target does not tell the owner")     \
	PIECE(TOLD_EARLY, "11", "where restarts go untold, a witness tells before it registers")   \
	PIECE(FLUSH_BELIEVED, "11", "where restarts go untold, a flush is believed as it is")      \
	PIECE(ACK_UNSAVED, "12", "an epoch is acknowledged before it is on the disk")              \
	PIECE(MINORITY, "12", "a minority's word is enough for an epoch")                          \
	PIECE(OLD_RING_ACKS, "12", "what was said in an older ring counts")                        \
	PIECE(DRAINED_EARLY, "13", "a node answers drained with its own writes in flight")         \
	PIECE(JOINS_UNCLEAN, "13", "a node registers anew while its old writes may land")          \
	PIECE(TAKER_UNCLEAN, "13", "a taker forgets what it carried for the last owner")           \
	PIECE(NO_QUORUM, "15", "an owner serves without quorum")                                   \
	PIECE(READ_OVERTAKEN, "16", "a slow read fills the cache over a newer write")              \
	PIECE(DEPOSED_CACHE, "16", "a deposed owner answers reads from its cache")                 \
	PIECE(KEPT_CACHE, "16", "an owner keeps its cache though another owned in between")        \
	PIECE(IMPORT_UNCHECKED, "16", "a line is imported though written since")                   \
	PIECE(SOURCE_RESUMES, "17", "the source of a handover resumes after the bump")

enum ferry_museum_piece {
	FERRY_MUSEUM_NOTHING = 0,
#define FERRY_MUSEUM_ENUM(NAME, RULES, TEXT) FERRY_MUSEUM_##NAME,
	FERRY_MUSEUM_PIECES(FERRY_MUSEUM_ENUM)
#undef FERRY_MUSEUM_ENUM
		FERRY_MUSEUM_COUNT
};

#ifdef FERRY_MUSEUM_BUILD
/* What this process exhibits; main() of the museum sets it, once. */
extern enum ferry_museum_piece ferry_museum_exhibit;
#define FERRY_MUSEUM(NAME) (ferry_museum_exhibit == FERRY_MUSEUM_##NAME)
#else
#define FERRY_MUSEUM(NAME) (FERRY_MUSEUM_##NAME == FERRY_MUSEUM_NOTHING)
#endif
