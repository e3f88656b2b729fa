/*
 * proof.c - what a target's ways of laying are worth: with the agent's own iSCSI adapter, a write
 * of the victim is held up inside the target, the survivor has it laid and then writes the same
 * block, and the held write is let go. Whose bytes remain?
 *
 *     ferry-target-proof PORTAL TARGET LUN CELL
 *
 * CELL is WAY:VICTIM. WAY: default (what the adapter chooses), abort, reset, reinstate, none (the
 * answer isn't waited for: the canary). VICTIM: holder, registrant, closed (its session ended while
 * its write ran), silent (it lives and says nothing); lost (the first answer is not waited for);
 * reboot (registrations over a restart of the target).
 *
 * What is done to the target is asked for on standard output, a word and the lun on a line, and
 * answered by "ok" on standard input: hold (what is written from now on waits), pass (what is
 * written from now on doesn't), release, restart. The last line is the verdict: safe; LATE: the
 * held write landed over newer data; STUCK: no proof; WRONG: the target says one thing and does
 * another. Exit code 0, 3, 4, 4. The lun must be one that nobody has reserved; its first 4 KiB are
 * overwritten.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/adapters/iscsi/iscsi.h"
#include "agent/adapters/uring/loop.h"

enum {
	ARENA_BYTES = 4 * 1024 * 1024,
	BLOCK_BYTES = 4096,
	NEW = 'n',
	GHOST = 'g',
	EXIT_LATE = 3,
	EXIT_STUCK = 4,
	ANSWER_MS_MAX = 20 * 1000,
};

/* As core/key.h has them: node, incarnation. */
#define KEY(node) (UINT64_C(0xfe) << 56 | (uint64_t)(node) << 32 | 1)

/* One initiator, on a loop of its own so that it can be left alone. */
struct side {
	struct ferry_uring_loop *owner;
	struct ferry_loop *loop;
	struct ferry_iscsi *iscsi;
	struct ferry_path *path;
	struct ferry_timer tick;
	uint32_t node;
	bool is_silent;
	bool was_down;
	char name[64];
};

struct work {
	struct ferry_attempt attempt;
	struct ferry_fence_request request;
	bool is_done;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	int error;
};

static const char *target_words[3]; /* Portal, target, lun. */
static enum ferry_laying_way way;
static struct side victim = {.node = 1};
static struct side survivor = {.node = 2};
static struct side third = {.node = 3};
static struct side *const SIDES[] = {&victim, &survivor, &third};
static struct ferry_arena arena;

static void die(const char *what, const char *detail)
{
	(void)fprintf(stderr, "%s: %s\n", what, detail);
	exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void target_do(const char *word)
{
	char line[64];

	(void)printf("%s %s\n", word, target_words[2]);
	(void)fflush(stdout);
	if (!fgets(line, sizeof(line), stdin) || strcmp(line, "ok\n") != 0)
		die(word, "the target's keeper did not do it");
}

static void tick_run(struct ferry_timer *timer)
{
	ferry_uring_loop_stop(FERRY_CONTAINER_OF(timer, struct side, tick)->owner);
}

/* Run everybody's loop, but for those that are silent, until @done or for @ms. */
static bool pump(const bool *done, uint64_t ms)
{
	uint64_t until_ms = now_ms() + ms;

	while (now_ms() < until_ms && !(done && *done))
		for (size_t i = 0; i < FERRY_ARRAY_COUNT(SIDES); i++) {
			struct side *side = SIDES[i];

			if (side->is_silent || !side->owner)
				continue;
			ferry_timer_start_in(side->loop, &side->tick, FERRY_NS_PER_MS);
			if (ferry_uring_loop_run(side->owner) < 0)
				die("loop", "cannot run");
		}
	return done && *done;
}

static void on_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	(void)cause;
	if (!is_up)
		((struct side *)path->context)->was_down = true;
}

static void side_open(struct side *side)
{
	struct ferry_error error = {0};
	struct ferry_iscsi_config config = {.portal = target_words[0],
					    .target = target_words[1],
					    .lun = (uint16_t)strtoul(target_words[2], NULL, 10),
					    .initiator = side->name,
					    .isid_qualifier = 1,
					    .node = {side->node},
					    .laying = way,
					    .fence_timeout_ns = 2 * FERRY_NS_PER_S,
					    .on_state = on_state,
					    .context = side};

	(void)snprintf(side->name, sizeof(side->name), "iqn.2026-11.test.ferry:proof%u",
		       side->node);
	if (ferry_uring_loop_open(&side->owner, &error) < 0)
		die("loop", error.message);
	side->loop = ferry_uring_loop_of(side->owner);
	side->tick.run = tick_run;
	config.loop = side->loop;
	if (ferry_iscsi_open(&config, &side->iscsi, &error) < 0)
		die("open", error.message);
	side->path = ferry_iscsi_path(side->iscsi);
}

static void side_wait(struct side *side)
{
	if (!pump(&side->path->is_up, ANSWER_MS_MAX))
		die(side->name, ferry_iscsi_last_error(side->iscsi));
}

static void on_end(struct ferry_attempt *attempt, enum ferry_outcome outcome,
		   enum ferry_cause cause)
{
	struct work *work = FERRY_CONTAINER_OF(attempt, struct work, attempt);

	work->outcome = outcome;
	work->cause = cause;
	work->is_done = true;
}

static void on_released(struct ferry_attempt *attempt)
{
	(void)attempt;
}

static void on_fenced(struct ferry_fence_request *request, int error)
{
	struct work *work = FERRY_CONTAINER_OF(request, struct work, request);

	work->error = error;
	work->is_done = true;
}

static void fence_start(struct side *side, struct work *work, enum ferry_fence_op op, uint64_t whom)
{
	*work = (struct work){.request = {.op = op,
					  .own = {KEY(side->node)},
					  .victim = {whom},
					  .on_done = on_fenced}};
	if (!ferry_iscsi_fence(side->iscsi))
		die("fence", "the lun has no reservations");
	ferry_fence_submit(ferry_iscsi_fence(side->iscsi), &work->request);
}

static struct work *fence_do(struct side *side, enum ferry_fence_op op, uint64_t whom)
{
	static struct work work;

	fence_start(side, &work, op, whom);
	if (!pump(&work.is_done, ANSWER_MS_MAX))
		die("fence", "no answer");
	return &work;
}

static void io_start(struct side *side, struct work *work, enum ferry_op op,
		     const struct ferry_segments *segments)
{
	*work = (struct work){.attempt = {.op = op,
					  .length_blocks = BLOCK_BYTES / 512,
					  .segments = *segments,
					  .on_end = on_end,
					  .on_released = on_released}};
	if (ferry_path_submit(side->path, &work->attempt) < 0)
		die("submit", side->name);
}

static struct ferry_segments filled(char byte)
{
	struct ferry_segments segments;
	char bytes[BLOCK_BYTES];

	if (ferry_arena_take(&arena, BLOCK_BYTES, &segments) < 0)
		die("arena", "full");
	memset(bytes, byte, sizeof(bytes));
	ferry_segments_write(&segments, 0, bytes, sizeof(bytes));
	return segments;
}

/* Unit attentions and the like are met by trying again. */
static struct work *io_do(struct side *side, enum ferry_op op, struct ferry_segments *segments)
{
	static struct work works[16];

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(works); i++) {
		struct work *work = &works[i];

		if (!side->path->is_up)
			side_wait(side);
		io_start(side, work, op, segments);
		if (!pump(&work->is_done, ANSWER_MS_MAX))
			die("I/O", "no answer");
		if (work->outcome == FERRY_OUTCOME_DONE || work->cause == FERRY_CAUSE_CONFLICT)
			return work;
	}
	die("I/O", "failed again and again");
	return NULL;
}

static void registrations_make(bool holds)
{
	struct work *work;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(SIDES); i++)
		if (fence_do(SIDES[i], FERRY_FENCE_REGISTER, 0)->error < 0)
			die("register", SIDES[i]->name);
	work = fence_do(holds ? &victim : &third, FERRY_FENCE_RESERVE, 0);
	if (work->error < 0)
		die("reserve", strerror(-work->error));
	/* So that every side remembers who is who, as an agent does. */
	if (fence_do(&survivor, FERRY_FENCE_READ_KEYS, 0)->error < 0)
		die("keys", "cannot be read");
}

/* What a fenced node says: no write. It may have to log in anew, and registers no more. */
static void victim_is_refused(void)
{
	struct ferry_segments segments = filled(GHOST);

	victim.is_silent = false;
	if (victim.iscsi &&
	    io_do(&victim, FERRY_OP_WRITE, &segments)->cause != FERRY_CAUSE_CONFLICT)
		die("victim", "a fenced node's write was not refused");
	ferry_segments_drop(&segments);
}

static char block_read(void)
{
	struct ferry_segments segments = filled('?');
	char byte;

	if (io_do(&survivor, FERRY_OP_READ, &segments)->outcome != FERRY_OUTCOME_DONE)
		die("read", "failed");
	ferry_segments_read(&segments, 0, &byte, 1);
	ferry_segments_drop(&segments);
	return byte;
}

/* What becomes of the victim's session while its write is held up. */
static void victim_suffers(const char *fate)
{
	if (strcmp(fate, "closed") == 0) {
		victim.path->ops->reset(victim.path);
		(void)pump(NULL, 20);
		victim.is_silent = true; /* It doesn't log in again for now. */
		(void)pump(NULL, 3000);	 /* So that the target has noticed. */
	} else if (strcmp(fate, "silent") == 0) {
		victim.is_silent = true;
	}
}

/* The survivor asks until it is proven, as core/laying.c does. True: proven. */
static bool lay(uint64_t ms)
{
	static struct work work;
	static bool is_out;
	uint64_t until_ms = now_ms() + ms;

	while (now_ms() < until_ms) {
		if (!is_out && !survivor.path->is_up) {
			(void)pump(&survivor.path->is_up, 100);
			continue;
		}
		if (!is_out)
			fence_start(&survivor, &work, FERRY_FENCE_PREEMPT, KEY(victim.node));
		is_out = true;
		if (!pump(&work.is_done, until_ms - now_ms()))
			return false;
		is_out = false;
		if (work.error == 0)
			return true;
		(void)fprintf(stderr, "  laying: %s; %s\n", strerror(-work.error),
			      ferry_iscsi_last_error(survivor.iscsi));
		(void)pump(NULL, 100);
	}
	return false;
}

static int verdict(const char *word, const char *detail)
{
	(void)printf("verdict %s %s\n", word, detail);
	(void)fflush(stdout);
	return strcmp(word, "safe") == 0 ? 0 : strcmp(word, "LATE") == 0 ? EXIT_LATE : EXIT_STUCK;
}

static int hold_and_lay(const char *fate, bool waits)
{
	struct ferry_segments old = filled('o');
	struct ferry_segments ghost = filled(GHOST);
	struct ferry_segments new = filled(NEW);
	static struct work held;
	uint64_t asked_ms;
	bool is_proven;
	char detail[80];

	registrations_make(strcmp(fate, "registrant") != 0);
	if (io_do(&survivor, FERRY_OP_WRITE, &old)->outcome != FERRY_OUTCOME_DONE)
		die("write", "refused");
	if (io_do(&victim, FERRY_OP_WRITE, &old)->outcome != FERRY_OUTCOME_DONE)
		die("write", "refused");
	target_do("hold");
	io_start(&victim, &held, FERRY_OP_WRITE, &ghost);
	if (pump(&held.is_done, 500))
		die("hold", "the target does not hold writes up");
	target_do("pass");
	victim_suffers(fate);
	asked_ms = now_ms();
	is_proven = lay(3000);
	if (!waits)
		is_proven = true;
	(void)snprintf(detail, sizeof(detail), "%s",
		       !waits	   ? "not waited for"
		       : is_proven ? "answered while the write was held"
				   : "waited for the write");
	if (is_proven && io_do(&survivor, FERRY_OP_WRITE, &new)->outcome != FERRY_OUTCOME_DONE)
		die("survivor", "its write is refused");
	target_do("release");
	if (!is_proven) {
		asked_ms = now_ms();
		if (!lay(ANSWER_MS_MAX))
			return verdict("STUCK", "no proof after the write had ended");
		(void)snprintf(detail, sizeof(detail), "waited for the write, and %llu ms",
			       (unsigned long long)(now_ms() - asked_ms));
		if (io_do(&survivor, FERRY_OP_WRITE, &new)->outcome != FERRY_OUTCOME_DONE)
			die("survivor", "its write is refused");
	}
	(void)pump(NULL, 1000);
	if (block_read() != NEW)
		return verdict("LATE", detail);
	victim_is_refused();
	if (block_read() != NEW)
		return verdict("LATE", "after the victim came back");
	return verdict("safe", detail);
}

/* Over a restart of the target. */
static int reboot(void)
{
	struct ferry_segments segments = filled(NEW);
	const struct ferry_fence_request *keys;
	struct work *work;
	bool is_kept;

	registrations_make(true);
	if (fence_do(&survivor, FERRY_FENCE_PREEMPT, KEY(victim.node))->error < 0)
		die("preempt", ferry_iscsi_last_error(survivor.iscsi));
	target_do("restart");
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(SIDES); i++) {
		(void)pump(&SIDES[i]->was_down, ANSWER_MS_MAX);
		side_wait(SIDES[i]);
	}
	work = fence_do(&survivor, FERRY_FENCE_READ_KEYS, 0);
	keys = &work->request;
	is_kept = work->error == 0 && keys->keys_count == 2 && keys->holder.v == KEY(survivor.node);
	if (is_kept != ferry_iscsi_fence(survivor.iscsi)->ability.keeps_registrations)
		return verdict("WRONG", "the target says one thing and does another");
	if (!is_kept)
		return verdict("safe", "forgets registrations, and says so");
	if (io_do(&survivor, FERRY_OP_WRITE, &segments)->outcome != FERRY_OUTCOME_DONE)
		die("survivor", "its write is refused");
	victim_is_refused();
	return verdict("safe", "keeps registrations and the reservation");
}

int main(int argc, char **argv)
{
	static const char *const WAYS[] = {"default", "abort", "reset", "reinstate", "quiesce"};
	static uint8_t memory[ARENA_BYTES] __attribute__((aligned(FERRY_CHUNK_BYTES)));
	static uint8_t tables[64 * 1024] __attribute__((aligned(64)));
	struct ferry_region region;
	char cell[64];
	char *fate;

	if (argc != 5)
		die("usage", "ferry-target-proof PORTAL TARGET LUN WAY:VICTIM");
	for (size_t i = 0; i < 3; i++)
		target_words[i] = argv[1 + i];
	(void)snprintf(cell, sizeof(cell), "%s", argv[4]);
	fate = strchr(cell, ':');
	if (!fate)
		die("usage", "WAY:VICTIM");
	*fate++ = '\0';
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(WAYS); i++)
		if (strcmp(cell, WAYS[i]) == 0)
			way = (enum ferry_laying_way)i;
	ferry_region_init(&region, tables, sizeof(tables));
	if (ferry_arena_init(&arena, &region, memory, sizeof(memory)) < 0)
		die("arena", "no memory");
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(SIDES); i++)
		side_open(SIDES[i]);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(SIDES); i++)
		side_wait(SIDES[i]);
	if (strcmp(fate, "reboot") == 0)
		return reboot();
	return hold_and_lay(fate, strcmp(cell, "none") != 0);
}
