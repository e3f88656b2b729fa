/*
 * What fencing decides, asked in one situation per file: NAME.in says what a node knows and asks,
 * NAME.out is what is decided. `golden_test DIR...` compares, `golden_test --write DIR...` writes
 * the .out files anew: on purpose, and to be read before they are committed.
 *
 *   self N | nodes N | ring N [quorate] | class reservations|none | lun X | lineage X
 *   epoch N [owner N] [in-force] [drained N] [unsettled N] | phase NAME [claimed N] | victim N
 *   flags [synced] [wants] [was-owner] [take] [forced] [by-lun] [sole] [fenced] [claim-over]
 *         [drain-over] [keeps-pool]
 *   member N inc N [said RING] [lun X] [epoch N] [acked RING:N [for N]] [drained N] [answered]
 *          [serves]
 *   left N ...           as a member; after the members: its words are still there, it is not
 *   seen N inc N [laid N] [fenced N] [heard S]
 *   answered-for N...    by a person, with the flag `forced`
 *   quiesce S              the storage's promise, in seconds; now S
 *   power N [member] [clean S [newest S]] [passed] [silent S]
 *                          what is known of a node's power; `power` alone: of nobody's
 *   history [other-devices] asked S answered S; then: fencing N cut|pending|proves-not [ended S]
 *   served N inc N         whose agent served last; without it, this one
 *   ? next | ? rights | ? synced | ? answered | ? power N
 *   ? TYPE from N ring N epoch N [inc N] [owner N] [lun X] [lineage X] [victim N] [in-force]
 *   ? join own KEY keys [KEY...] [holder KEY] [only-if-kept]
 *   ? take own KEY keys [KEY...] [holder KEY] [drained KEY...]
 *
 * Takings up to the epoch before the claimed one are settled; with `unsettled N`, only up to that
 * before N. X is a letter; a KEY is NODE:INCARNATION, or foreign.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/key.h"
#include "agent/core/keys.h"
#include "fencing/decide.h"

enum { LINE_BYTES = 256, WORDS_MAX = 40, TEXT_BYTES = 8192, FILES_MAX = 1000 };

struct golden {
	struct ferry_situation situation;
	struct ferry_members nodes;
	struct ferry_members members;
	struct ferry_ownership_member known[FERRY_NODES_MAX];
	struct ferry_ownership_seen seen[FERRY_NODES_MAX];
	struct ferry_members answered_for;
	struct ferry_power_node power[FERRY_NODES_MAX + 1];
	uint32_t power_count;
	struct ferry_power_report history;
	uint32_t seen_count;
	char *words[WORDS_MAX]; /* Of the line; NULL after the last. */
	uint32_t words_count;
	uint32_t questions_count;
	uint64_t unsettled;
	const char *path;
	char out[TEXT_BYTES];
	size_t out_bytes;
};

static void fail(const struct golden *golden, const char *what, const char *word)
{
	fprintf(stderr, "%s: %s: %s\n", golden->path, what, word ? word : "nothing");
	exit(2);
}

__attribute__((format(printf, 2, 3))) static void say(struct golden *golden, const char *format,
						      ...)
{
	size_t left = sizeof(golden->out) - golden->out_bytes;
	va_list arguments;
	int r;

	va_start(arguments, format);
	r = vsnprintf(golden->out + golden->out_bytes, left, format, arguments);
	va_end(arguments);
	if (r < 0 || (size_t)r >= left)
		fail(golden, "too much to say", format);
	golden->out_bytes += (size_t)r;
}

/* ---- Words. ---- */

/* Where @name is in the line, from word 1 on; 0: it is not. */
static uint32_t find(const struct golden *golden, const char *name)
{
	for (uint32_t i = 1; i < golden->words_count; i++)
		if (strcmp(golden->words[i], name) == 0)
			return i;
	return 0;
}

static bool has(const struct golden *golden, const char *name)
{
	return find(golden, name) > 0;
}

static uint64_t number(const struct golden *golden, const char *word)
{
	char *end = NULL;
	uint64_t value;

	if (!word || word[0] < '0' || word[0] > '9')
		fail(golden, "not a number", word);
	value = strtoull(word, &end, 10);
	if (*end != '\0' && *end != ':')
		fail(golden, "not a number", word);
	return value;
}

static const char *value(const struct golden *golden, const char *name)
{
	uint32_t i = find(golden, name);

	return i > 0 ? golden->words[i + 1] : NULL;
}

static uint64_t value_number(const struct golden *golden, const char *name, uint64_t otherwise)
{
	return has(golden, name) ? number(golden, value(golden, name)) : otherwise;
}

static struct ferry_uuid uuid(const char *letter)
{
	return (struct ferry_uuid){{letter ? (uint8_t)letter[0] : 'A'}};
}

static struct ferry_key key(const struct golden *golden, const char *word)
{
	const char *colon = word ? strchr(word, ':') : NULL;

	if (word && strcmp(word, "foreign") == 0)
		return (struct ferry_key){0x1234};
	if (!colon)
		fail(golden, "not a key", word);
	return ferry_key_make((struct ferry_node){(uint32_t)number(golden, word)},
			      (struct ferry_incarnation){number(golden, colon + 1)});
}

/* The keys that follow @name, up to the first word that is none. */
static uint32_t keys(const struct golden *golden, const char *name, struct ferry_key *ret)
{
	uint32_t i = find(golden, name);
	uint32_t count = 0;

	if (i == 0)
		return 0;
	for (i++; i < golden->words_count && count < FERRY_KEYS_MAX; i++) {
		if (!strchr(golden->words[i], ':') && strcmp(golden->words[i], "foreign") != 0)
			break;
		ret[count++] = key(golden, golden->words[i]);
	}
	return count;
}

/* ---- What is known. ---- */

static void read_member(struct golden *golden)
{
	uint32_t i = golden->members.count;
	const char *acked = value(golden, "acked");
	struct ferry_ownership_member *member = &golden->known[i];

	if (i == FERRY_NODES_MAX)
		fail(golden, "too many members", golden->words[1]);
	*member = (struct ferry_ownership_member){
		.node = {(uint32_t)number(golden, golden->words[1])},
		.incarnation = {value_number(golden, "inc", 1)},
		.state_ring = value_number(golden, "said", 0),
		.lun = uuid(value(golden, "lun")),
		.epoch = {value_number(golden, "epoch", 0)},
		.drained = {value_number(golden, "drained", 0)},
		.has_answered = has(golden, "answered"),
		.is_serving = has(golden, "serves"),
	};
	golden->members.nodes[i] = member->node;
	golden->members.count += strcmp(golden->words[0], "member") == 0;
	if (!acked)
		return;
	if (!strchr(acked, ':'))
		fail(golden, "not RING:EPOCH", acked);
	member->ack_ring = number(golden, acked);
	member->acked.v = number(golden, strchr(acked, ':') + 1);
	member->acked_for.v = (uint32_t)value_number(golden, "for", golden->situation.self.v);
}

static void read_seen(struct golden *golden)
{
	if (golden->seen_count == FERRY_NODES_MAX)
		fail(golden, "too many seen", golden->words[1]);
	golden->seen[golden->seen_count++] = (struct ferry_ownership_seen){
		.node = {(uint32_t)number(golden, golden->words[1])},
		.incarnation = {value_number(golden, "inc", 1)},
		.laid = {value_number(golden, "laid", 0)},
		.fenced = {value_number(golden, "fenced", 0)},
		.heard_ns = value_number(golden, "heard", 0) * FERRY_NS_PER_S,
	};
}

/* Without a node: somebody could tell, and has told of nobody. */
static void read_power(struct golden *golden)
{
	golden->situation.power = golden->power;
	if (!golden->words[1])
		return;
	if (golden->power_count == FERRY_NODES_MAX)
		fail(golden, "too many nodes", golden->words[1]);
	golden->power[golden->power_count++] = (struct ferry_power_node){
		.node = {(uint32_t)number(golden, golden->words[1])},
		.is_member = has(golden, "member"),
		.is_clean = has(golden, "clean"),
		.clean_s = value_number(golden, "clean", 0),
		.newest_s = value_number(golden, "newest", 0),
		.is_passed = has(golden, "passed"),
		.silent_ns = value_number(golden, "silent", 0) * FERRY_NS_PER_S,
	};
}

static void read_fencing(struct golden *golden)
{
	struct ferry_power_report *history = &golden->history;

	if (history->count == FERRY_POWER_FENCINGS_MAX)
		fail(golden, "too many fencings", golden->words[1]);
	history->fencings[history->count++] = (struct ferry_power_fencing){
		.node = {(uint32_t)number(golden, golden->words[1])},
		.result = has(golden, "cut")	   ? FERRY_POWER_CUT
			  : has(golden, "pending") ? FERRY_POWER_PENDING
						   : FERRY_POWER_PROVES_NOT,
		.ended_s = value_number(golden, "ended", 0),
	};
}

static void read_answered_for(struct golden *golden)
{
	struct ferry_members *named = &golden->answered_for;

	for (uint32_t i = 1; i < golden->words_count; i++) {
		if (named->count == FERRY_NODES_MAX)
			fail(golden, "too many answered for", golden->words[i]);
		named->nodes[named->count++].v = (uint32_t)number(golden, golden->words[i]);
	}
}

static void read_phase(struct golden *golden)
{
	struct ferry_situation *situation = &golden->situation;

	for (int phase = FERRY_OWNERSHIP_IDLE; phase <= FERRY_OWNERSHIP_RELEASING; phase++)
		if (strcmp(ferry_ownership_phase_name((enum ferry_ownership_phase)phase),
			   golden->words[1]) == 0)
			situation->phase = (enum ferry_ownership_phase)phase;
	situation->claimed.v = value_number(golden, "claimed", 0);
	situation->settled.v = ferry_min_u64(golden->unsettled, situation->claimed.v);
	situation->settled.v -= situation->settled.v > 0;
}

static void read_flags(struct golden *golden)
{
	struct ferry_situation *situation = &golden->situation;
	const struct {
		const char *name;
		bool *flag;
	} flags[] = {
		{"synced", &situation->is_synced},
		{"wants", &situation->wants_pool},
		{"was-owner", &situation->was_owner},
		{"take", &situation->is_take},
		{"forced", &situation->is_forced},
		{"by-lun", &situation->is_by_lun},
		{"sole", &situation->is_sole},
		{"fenced", &situation->is_fenced},
		{"claim-over", &situation->claim_is_over},
		{"drain-over", &situation->drain_is_over},
		{"keeps-pool", &situation->keeps_pool},
	};

	for (uint32_t i = 1; i < golden->words_count; i++) {
		bool is_known = false;

		for (size_t j = 0; j < FERRY_ARRAY_COUNT(flags); j++)
			if (strcmp(flags[j].name, golden->words[i]) == 0)
				is_known = *flags[j].flag = true;
		if (!is_known)
			fail(golden, "no such flag", golden->words[i]);
	}
}

static void read_fact(struct golden *golden)
{
	struct ferry_situation *situation = &golden->situation;
	const char *name = golden->words[0];
	const char *first = golden->words[1];

	if (strcmp(name, "power") == 0) {
		read_power(golden);
		return;
	}
	if (!first)
		fail(golden, "says nothing", name);
	if (strcmp(name, "self") == 0) {
		situation->self.v = (uint32_t)number(golden, first);
		situation->served_by = situation->self;
	} else if (strcmp(name, "nodes") == 0) {
		golden->nodes = ferry_members_of((uint32_t)number(golden, first));
	} else if (strcmp(name, "ring") == 0) {
		situation->ring = number(golden, first);
		situation->is_quorate = has(golden, "quorate");
	} else if (strcmp(name, "class") == 0) {
		situation->has_reservations = strcmp(first, "reservations") == 0;
	} else if (strcmp(name, "epoch") == 0) {
		situation->epoch.v = number(golden, first);
		situation->owner.v = (uint32_t)value_number(golden, "owner", 0);
		situation->is_in_force = has(golden, "in-force");
		situation->drained.v = value_number(golden, "drained", 0);
		golden->unsettled = value_number(golden, "unsettled", UINT64_MAX);
	} else if (strcmp(name, "phase") == 0) {
		read_phase(golden);
	} else if (strcmp(name, "victim") == 0) {
		situation->victim.v = (uint32_t)number(golden, first);
	} else if (strcmp(name, "flags") == 0) {
		read_flags(golden);
	} else if (strcmp(name, "member") == 0 || strcmp(name, "left") == 0) {
		read_member(golden);
	} else if (strcmp(name, "served") == 0) {
		situation->served_by.v = (uint32_t)number(golden, first);
		situation->served_as.v = value_number(golden, "inc", 0);
	} else if (strcmp(name, "seen") == 0) {
		read_seen(golden);
	} else if (strcmp(name, "quiesce") == 0) {
		situation->quiesce_time_ns = number(golden, first) * FERRY_NS_PER_S;
	} else if (strcmp(name, "now") == 0) {
		situation->now_ns = number(golden, first) * FERRY_NS_PER_S;
	} else if (strcmp(name, "history") == 0) {
		golden->history.cuts_power = !has(golden, "other-devices");
		golden->history.asked_s = value_number(golden, "asked", 0);
		golden->history.answered_s = value_number(golden, "answered", 0);
	} else if (strcmp(name, "fencing") == 0) {
		read_fencing(golden);
	} else if (strcmp(name, "answered-for") == 0) {
		read_answered_for(golden);
	} else {
		fail(golden, "no such fact", name);
	}
}

/* ---- Questions. ---- */

static void say_keys(struct golden *golden, const char *what, const struct ferry_key *list,
		     uint32_t count)
{
	if (count > 0)
		say(golden, ", %s", what);
	for (uint32_t i = 0; i < count; i++) {
		if (list[i].v == ferry_key_of_nobody().v)
			say(golden, " whom nobody knows");
		else if (list[i].v == ferry_key_of_forgotten().v)
			say(golden, " whom nobody remembers");
		else
			say(golden, " %u:%u", ferry_key_node(list[i]).v,
			    ferry_key_incarnation(list[i]));
	}
}

static void ask_next(struct golden *golden)
{
	static const char *const names[] = {
		[FERRY_DECISION_REST] = "rest",
		[FERRY_DECISION_HOLD] = "hold",
		[FERRY_DECISION_SYNC] = "wait for words",
		[FERRY_DECISION_RECLAIM] = "ask for the pool again",
		[FERRY_DECISION_CLAIM] = "claim",
		[FERRY_DECISION_WAIT_ACKS] = "wait for acknowledgements",
		[FERRY_DECISION_WAIT_DRAIN] = "wait for all to drain",
		[FERRY_DECISION_WAIT_QUIESCE] = "wait",
		[FERRY_DECISION_TAKE] = "take the lun",
		[FERRY_DECISION_IN_FORCE] = "serve: the epoch is in force",
		[FERRY_DECISION_LET_GO] = "let go: nobody is to serve",
		[FERRY_DECISION_REFUSE] = "refuse",
	};
	struct ferry_decision decision;

	ferry_decide_next(&golden->situation, &decision);
	say(golden, "next: %s", names[decision.kind]);
	if (decision.kind == FERRY_DECISION_CLAIM)
		say(golden, " %llu", (unsigned long long)decision.epoch.v);
	if (decision.kind == FERRY_DECISION_WAIT_QUIESCE && decision.until_ns != 0)
		say(golden, " until %llu",
		    (unsigned long long)(decision.until_ns / FERRY_NS_PER_S));
	if (decision.is_by_lun)
		say(golden, ", the lun being the third voice");
	if (decision.kind == FERRY_DECISION_TAKE) {
		say_keys(golden, "keep", decision.keys.keys, decision.keys.count);
		say_keys(golden, "abort", decision.keys.suspects, decision.keys.suspects_count);
		say(golden, "%s", decision.keys.is_answered_for ? ", proof or no proof" : "");
	}
	if (decision.error < 0)
		say(golden, " (%d)", decision.error);
	say(golden, "%s%s\n", decision.why ? ": " : "", decision.why ? decision.why : "");
}

static void ask_rights(struct golden *golden)
{
	struct ferry_view view = {0};

	ferry_decide_rights(&golden->situation, &view);
	say(golden, "rights:%s%s%s%s%s\n", view.is_quorate ? " quorum" : "",
	    view.may_register ? " register" : "", view.may_help ? " help" : "",
	    view.may_help && view.only_if_kept ? " only-if-kept" : "",
	    !view.is_quorate && !view.may_register && !view.may_help ? " none" : "");
}

/* False: the word is no message's type. */
static bool ask_message(struct golden *golden)
{
	static const char *const types[] = {"",	       "STATE",	   "CLAIM", "ACK",   "IN_FORCE",
					    "RELEASE", "HANDOVER", "FENCE", "FENCED"};
	static const char *const names[] = {
		[FERRY_REACTION_IGNORE] = "ignore",
		[FERRY_REACTION_NOTE] = "note",
		[FERRY_REACTION_INSTALL] = "install, acknowledge",
		[FERRY_REACTION_LEARN] = "learn",
		[FERRY_REACTION_FOLLOW] = "follow: in force",
		[FERRY_REACTION_CLAIM_AGAIN] = "claim again",
		[FERRY_REACTION_CLAIM_ABOVE] = "claim above it",
		[FERRY_REACTION_NOBODYS] = "nobody's",
		[FERRY_REACTION_FENCE] = "fence it",
	};
	struct ferry_group_message message = {
		.lun = uuid(value(golden, "lun")),
		.lineage = uuid(value(golden, "lineage")),
		.epoch = {value_number(golden, "epoch", 0)},
		.owner = {(uint32_t)value_number(golden, "owner", 0)},
		.ring = value_number(golden, "ring", 0),
		.victim = {(uint32_t)value_number(golden, "victim", 0)},
		.incarnation = {value_number(golden, "inc", 1)},
		.flags = has(golden, "in-force") ? FERRY_GROUP_IS_IN_FORCE : 0,
	};
	struct ferry_node from = {(uint32_t)value_number(golden, "from", 0)};
	struct ferry_reaction reaction;

	for (size_t i = 1; i < FERRY_ARRAY_COUNT(types); i++)
		if (strcmp(golden->words[1], types[i]) == 0)
			message.type = (enum ferry_group_type)i;
	if (message.type == 0)
		return false;
	reaction = ferry_decide_message(&golden->situation, from, &message);
	say(golden, "%s from %u: %s%s%s%s%s\n", golden->words[1], from.v, names[reaction.kind],
	    reaction.deposes ? ", another has the pool" : "",
	    reaction.is_own_past ? ", nobody's now" : "", reaction.why ? ": " : "",
	    reaction.why ? reaction.why : "");
	return true;
}

static void ask_keys(struct golden *golden, bool is_join)
{
	static const char *const joins[] = {
		[FERRY_KEYS_REGISTER] = "register",
		[FERRY_KEYS_REPLACE] = "register in an elder's place, then be killed",
		[FERRY_KEYS_FOREIGN] = "refuse: somebody else's lun",
		[FERRY_KEYS_NEWER] = "refuse: a later agent of this node's",
		[FERRY_KEYS_LOST] = "refuse: its key is gone",
	};
	static const char *const takes[] = {
		[FERRY_KEYS_REFUSE] = "refuse: somebody else's lun",
		[FERRY_KEYS_PREEMPT] = "preempt",
		[FERRY_KEYS_RESERVE] = "reserve",
		[FERRY_KEYS_ABORT] = "abort what the others sent",
	};
	struct ferry_key list[FERRY_KEYS_MAX];
	struct ferry_keys lun = {.keys = list, .count = keys(golden, "keys", list)};
	struct ferry_drained_keys drained = {0};
	struct ferry_key own = key(golden, value(golden, "own"));
	struct ferry_key victim = {0};

	if (has(golden, "holder"))
		lun.holder = key(golden, value(golden, "holder"));
	drained.count = keys(golden, "drained", drained.keys);
	if (is_join) {
		say(golden, "join: %s\n",
		    joins[ferry_keys_join(&lun, own, has(golden, "only-if-kept"))]);
		return;
	}
	say(golden, "take: %s", takes[ferry_keys_take(&lun, own, &drained, &victim)]);
	if (victim.v != 0)
		say(golden, " %u:%u", ferry_key_node(victim).v, ferry_key_incarnation(victim));
	say(golden, "\n");
}

static void ask_power(struct golden *golden)
{
	static const char *const names[] = {
		[FERRY_POWER_NOTHING] = "nothing",
		[FERRY_POWER_CLEAN] = "what is new from here on counts",
		[FERRY_POWER_CONFIRMED] = "its power was cut",
	};
	uint64_t node = number(golden, golden->words[2]);

	for (uint32_t i = 0; i < golden->power_count; i++) {
		const char *why = NULL;

		if (golden->power[i].node.v != node)
			continue;
		say(golden, "power of %llu: %s", (unsigned long long)node,
		    names[ferry_power_judge(&golden->power[i], &golden->history, &why)]);
		say(golden, "%s%s\n", why ? ": " : "", why ? why : "");
		return;
	}
	fail(golden, "nothing is known of its power", golden->words[2]);
}

static void ask(struct golden *golden)
{
	const char *what = golden->words[1] ? golden->words[1] : "";

	golden->questions_count++;
	if (strcmp(what, "next") == 0)
		ask_next(golden);
	else if (strcmp(what, "rights") == 0)
		ask_rights(golden);
	else if (strcmp(what, "synced") == 0)
		say(golden, "synced: %d\n", ferry_decide_is_synced(&golden->situation));
	else if (strcmp(what, "answered") == 0)
		say(golden, "answered: %d\n", ferry_decide_is_answered(&golden->situation));
	else if (strcmp(what, "power") == 0)
		ask_power(golden);
	else if (strcmp(what, "join") == 0 || strcmp(what, "take") == 0)
		ask_keys(golden, what[0] == 'j');
	else if (!what[0] || !ask_message(golden))
		fail(golden, "no such question", what);
}

/* ---- Files. ---- */

static void read_line(struct golden *golden, char *line)
{
	char *rest = NULL;

	golden->words_count = 0;
	memset(golden->words, 0, sizeof(golden->words));
	if (line[0] == '#')
		return;
	for (char *word = strtok_r(line, " \t\n", &rest); word;
	     word = strtok_r(NULL, " \t\n", &rest)) {
		if (golden->words_count == WORDS_MAX - 1)
			fail(golden, "too many words", word);
		golden->words[golden->words_count++] = word;
	}
	if (golden->words_count == 0)
		return;
	if (strcmp(golden->words[0], "?") == 0)
		ask(golden);
	else
		read_fact(golden);
}

static void run(struct golden *golden, const char *path)
{
	char line[LINE_BYTES];
	FILE *file = fopen(path, "re");

	memset(golden, 0, sizeof(*golden));
	golden->path = path;
	golden->unsettled = UINT64_MAX;
	golden->situation = (struct ferry_situation){
		.lun = uuid("A"),
		.lineage = uuid("A"),
		.phase = FERRY_OWNERSHIP_IDLE,
		.nodes = &golden->nodes,
		.members = &golden->members,
		.known = golden->known,
		.seen = golden->seen,
		.answered_for = &golden->answered_for,
	};
	if (!file)
		fail(golden, "cannot be read", path);
	while (fgets(line, sizeof(line), file)) {
		if (!strchr(line, '\n'))
			fail(golden, "a line is too long", line);
		read_line(golden, line);
	}
	(void)fclose(file);
	if (golden->questions_count == 0)
		fail(golden, "asks nothing", path);
}

/* True: the .out file says the same. */
static bool compare(const struct golden *golden, const char *path)
{
	char text[TEXT_BYTES] = {0};
	FILE *file = fopen(path, "re");
	size_t bytes = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

	if (file)
		(void)fclose(file);
	if (file && bytes == golden->out_bytes && strcmp(text, golden->out) == 0)
		return true;
	printf("%s\n--- expected\n%s+++ decided\n%s", golden->path, text, golden->out);
	return false;
}

static void write_out(const struct golden *golden, const char *path)
{
	FILE *file = fopen(path, "we");

	if (!file || fwrite(golden->out, 1, golden->out_bytes, file) != golden->out_bytes ||
	    fclose(file) != 0)
		fail(golden, "cannot be written", path);
}

/* @questions grows by those of the file. False: one is decided otherwise. */
static bool one(const char *folder, const char *name, bool writes, uint32_t *questions)
{
	static struct golden golden;
	char in[512];
	char out[512];
	int length = (int)strlen(name) - 3;

	(void)snprintf(in, sizeof(in), "%s/%s", folder, name);
	(void)snprintf(out, sizeof(out), "%s/%.*s.out", folder, length, name);
	run(&golden, in);
	*questions += golden.questions_count;
	if (writes)
		write_out(&golden, out);
	return writes || compare(&golden, out);
}

int main(int count, char **arguments)
{
	bool writes = count > 1 && strcmp(arguments[1], "--write") == 0;
	uint32_t questions = 0;
	int situations = 0;
	int differing = 0;

	for (int i = writes ? 2 : 1; i < count; i++) {
		DIR *folder = opendir(arguments[i]);
		struct dirent *entry;

		if (!folder) {
			fprintf(stderr, "%s: no such folder\n", arguments[i]);
			return 2;
		}
		while ((entry = readdir(folder)) && situations < FILES_MAX) {
			const char *end = strrchr(entry->d_name, '.');

			if (!end || strcmp(end, ".in") != 0)
				continue;
			situations++;
			differing += !one(arguments[i], entry->d_name, writes, &questions);
		}
		(void)closedir(folder);
	}
	printf("%d situations, %u questions, %d differ\n", situations, questions, differing);
	if (situations == 0)
		return 2;
	return differing > 0 ? 1 : 0;
}
