/*
 * cli.h - ferry, the admin command: what its files share.
 *
 * Owns:    nothing that outlives one command.
 * Callers: agent/cli only.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include <json-c/json.h>
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>

#include "agent/adapters/grpc/client.h"
#include "agent/adapters/nbddev/nbddev.h"

/* What scripts may rely on; `ferry --help` says the same. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_NO_AGENT = 3,
	CLI_NOT_FOUND = 4,
	CLI_REFUSED = 5,
	CLI_TIMEOUT = 6,
	CLI_VIOLATION = 7,
};

enum { CLI_COLUMNS_MAX = 16, CLI_CELL_BYTES = 256, CLI_ARGUMENTS_MAX = 2, CLI_NODES_MAX = 64 };

struct cli_options {
	const char *socket_path;
	uint64_t timeout_s; /* 0: the command's own. */
	bool is_json;
	bool is_help;
	const char *arguments[CLI_ARGUMENTS_MAX]; /* NULL: not given. */

	/* Of some commands. */
	bool is_follow;
	bool is_from_given;
	uint64_t from_sequence;
	int is_clean; /* Flags that getopt_long() sets. */
	int is_foreign;
	int is_force;
	int is_take;
	int is_yes;
	int is_check;
	const char *pool;
	bool is_torture;  /* One of these was given: */
	uint64_t seconds; /* 0: not given. */
	uint64_t seed;
	const char *nbd;
	const char *report;
};

/* The agent that is asked, and how. */
struct cli_agent {
	struct ferry_grpc_client *client;
	const struct cli_options *options;
	uint64_t timeout_s;
};

/* main.c: one call of @method ("GetStatus"); errors are ferry_grpc_client_call()'s. */
int cli_call(const struct cli_agent *agent, const char *method, const ProtobufCMessage *input,
	     const ProtobufCMessageDescriptor *output, ProtobufCMessage **ret,
	     struct ferry_error *reterr) FERRY_MUST_CHECK;
/* As JSON, if that was asked for; else by @show. */
void cli_print(const struct cli_agent *agent, const ProtobufCMessage *message,
	       void (*show)(const ProtobufCMessage *message));

/* A table of texts that is printed with its columns aligned. Rows stay until it is printed. */
struct cli_table {
	size_t columns_count;
	const char *titles[CLI_COLUMNS_MAX];
	bool is_right[CLI_COLUMNS_MAX]; /* Numbers. */
	char (*cells)[CLI_CELL_BYTES];	/* Row by row. */
	size_t cells_count;
	size_t cells_room;
};

/* @titles: "POOL", "STATE", "+EPOCH": a plus aligns to the right and isn't printed. */
void cli_table_init(struct cli_table *table, const char *const *titles, size_t titles_count);
/* The next cell; the last column's ends the row. Control characters become '?'. */
void cli_table_add(struct cli_table *table, const char *format, ...) FERRY_PRINTF(2, 3);
/* Print and empty it. Without rows prints @nothing, unless that is NULL. */
void cli_table_print(struct cli_table *table, const char *nothing);

/* @text with control characters as '?', cut to @size_bytes. */
void cli_clean(char *to, size_t size_bytes, const char *text);

/*
 * Any message as JSON, by its descriptor: fields by their names, enums as their names in lower
 * case without the type's ("healthy"), so that it always has what the .proto has.
 */
struct json_object *cli_json_of(const ProtobufCMessage *message);
/* "healthy" of an enum's value; the number, if it is unknown to us. @ret has 32 bytes. */
void cli_enum_name(const ProtobufCEnumDescriptor *type, int value, char ret[32]);

/* nbd_device.c: whether the kernel's NBD client can have @uri. */
bool cli_nbd_is(const char *uri);
/*
 * A device of it, new or not; errors as ferry_nbddev_attach()'s and ferry_nbddev_end_dead()'s.
 * @label, @hold_s: as the agent has answered.
 */
int cli_nbd_attach(const char *uri, const char *label, uint32_t hold_s,
		   char ret_device[FERRY_NBDDEV_PATH_MAX],
		   struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * device.c: where the agent has only the volume's file, a loop device is put over it, and named in
 * the answer instead; or taken off again. A device of the agent's own is detached by a second call.
 * -EPERM: it is in use; -EOPNOTSUPP: there is no file.
 */
int cli_attach(ProtobufCMessage *message, struct ferry_error *reterr) FERRY_MUST_CHECK;
/* Name each volume's loop device, where it has one, instead of its file. */
void cli_volumes(ProtobufCMessage *message);
int cli_detach(const struct cli_agent *agent, ProtobufCMessage *message,
	       struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * ask.c: have a person answer @question, which was printed with what it is about, with @word.
 * --yes answers it. -EPERM: the answer was another, or there is nobody to ask, which is told all
 * the same what would have been asked.
 */
int cli_ask(const struct cli_options *options, const char *question, const char *word,
	    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* How this node stands in its cluster, as known.c has asked. */
struct cli_standing {
	bool is_alone; /* Of no cluster. */
	bool is_quorate;
	uint32_t agents_expected;
	size_t agents_here;
	uint32_t missing[CLI_NODES_MAX]; /* The nodes whose agents are not in the group, */
	size_t missing_count;
	char missing_names[CLI_CELL_BYTES]; /* and as words: "n2, n3". */
};

/*
 * known.c: before a person is asked. -ENOENT: there is no such pool or node; it is named. Of
 * cli_quorum_check() -EPERM: there is no quorum; @without says what that means here.
 */
int cli_pool_check(const struct cli_agent *agent, const char *name,
		   struct ferry_error *reterr) FERRY_MUST_CHECK;
int cli_node_check(const struct cli_agent *agent, const char *name,
		   struct ferry_error *reterr) FERRY_MUST_CHECK;
int cli_standing_get(const struct cli_agent *agent, struct cli_standing *ret,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;
int cli_quorum_check(const struct cli_standing *standing, const char *without,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;

/* keys.c: how often @message, a LunKeys, lists the key at @index; 0: an earlier index has it. */
size_t cli_key_count(const ProtobufCMessage *message, size_t index);

/* keys.c, force.c: the commands that ask before they act. */
int cli_keys(const struct cli_agent *agent, struct ferry_error *reterr) FERRY_MUST_CHECK;
int cli_own(const struct cli_agent *agent, struct ferry_error *reterr) FERRY_MUST_CHECK;
int cli_clear(const struct cli_agent *agent, struct ferry_error *reterr) FERRY_MUST_CHECK;
int cli_fence(const struct cli_agent *agent, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* torture.c. -EBADMSG: a violation. */
int cli_torture(const struct cli_agent *agent, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* show.c: each answer for people. */
void cli_show_status(const ProtobufCMessage *message);
void cli_show_volumes(const ProtobufCMessage *message);
void cli_show_paths(const ProtobufCMessage *message);
void cli_show_peers(const ProtobufCMessage *message);
void cli_show_luns(const ProtobufCMessage *message);
void cli_show_attach(const ProtobufCMessage *message);
void cli_show_acquire(const ProtobufCMessage *message);
void cli_show_move(const ProtobufCMessage *message);
void cli_show_version(const ProtobufCMessage *message);
void cli_show_nothing(const ProtobufCMessage *message);
void cli_show_keys(const ProtobufCMessage *message);
void cli_show_fence(const ProtobufCMessage *message);
void cli_show_event(const ProtobufCMessage *message);
void cli_show_event_titles(void);
