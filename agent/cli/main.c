/* ferry, the admin command: asks the agent of this node, and prints its answer. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "agent/adapters/grpc/client.h"
#include "agent/adapters/openssl/openssl.h"
#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

static const char socket_default[] = "/run/ferry/ferry.sock";

enum {
	QUICK_S = 10,
	SLOW_S = 60, /* Attaching and changes of owner. */
	TIMEOUT_S_MAX = 24 * 3600,
	SEED_MAX = 999999,
};

struct command {
	const char *name;
	const char *arguments; /* As help shows them; one word for each; in brackets: or none. */
	const char *summary;
	const char *details;
	const char *method; /* NULL: asks no agent. */
	size_t arguments_count;
	uint64_t timeout_s;
	const ProtobufCMessageDescriptor *output;
	void (*show)(const ProtobufCMessage *message);
	/* NULL: one call, its answer shown. */
	int (*run)(const struct cli_agent *agent, struct ferry_error *reterr);
};

static int run_events(const struct cli_agent *agent, struct ferry_error *reterr);

static const struct command commands[] = {
	{"status", "", "this node's agent, the cluster, the pools",
	 "STATE is the pool's on this node, PATH the judgement of this node's path to it.\n"
	 "GHOSTS are alive/laid: writes whose outcome is unknown, and those proven dead.\n",
	 "GetStatus", 0, QUICK_S, &ferry__v1__status__descriptor, cli_show_status, NULL},
	{"volumes", "", "the volumes and their devices",
	 "DEVICE is the block device that `ferry attach` made; before that, the volume as a file.\n"
	 "STATE is the pool's on this node. CLIENTS are NBD clients and descriptors of the file.\n",
	 "ListVolumes", 0, QUICK_S, &ferry__v1__volume_list__descriptor, cli_show_volumes, NULL},
	{"paths", "", "the ways to each lun, with counters",
	 "DONE, FAILED and UNKNOWN count attempts by how they ended.\n", "ListPaths", 0, QUICK_S,
	 &ferry__v1__path_list__descriptor, cli_show_paths, NULL},
	{"peers", "", "the other nodes' agents",
	 "PATH is what the peer says of its own path: HEALTHY, or FORWARDING if it does not work.\n"
	 "BY is what carries between the two, and if it is not RDMA, why. RTT is TCP's.\n"
	 "CARRIED FOR and BY count I/Os.\n",
	 "ListPeers", 0, QUICK_S, &ferry__v1__peer_list__descriptor, cli_show_peers, NULL},
	{"luns", "", "the shared storage, by identity", "", "ListLuns", 0, QUICK_S,
	 &ferry__v1__lun_list__descriptor, cli_show_luns, NULL},
	{"attach", "VOLUME", "make a block device of a volume; prints its path",
	 "By ublk where the agent has it ([ublk]) and the kernel too; else by the kernel's own "
	 "NBD\n"
	 "client (a unix socket in [nbd], and modprobe nbd); else by a loop device over the "
	 "volume's\n"
	 "file ([fuse]). Which, and why, is said on stderr, and by --json. Attaching an attached\n"
	 "volume prints the same device again.\n",
	 "AttachVolume", 1, SLOW_S, &ferry__v1__attach_volume_reply__descriptor, cli_show_attach,
	 NULL},
	{"detach", "VOLUME", "remove that device",
	 "Refused while the device is in use. Also where the pool is not owned any more.\n",
	 "DetachVolume", 1, SLOW_S, &ferry__v1__detach_volume_reply__descriptor, cli_show_nothing,
	 NULL},
	{"acquire", "POOL", "own and serve a pool on this node",
	 "  --take         also from a node that serves it, whose applications get errors\n"
	 "What the cluster manager's start does; rarely for people. Returns once it is served. "
	 "What\n"
	 "is not served in time (--timeout) is withdrawn, with what it waited for. Refused while\n"
	 "another node serves it: ferry move, there.\n",
	 "AcquirePool", 1, SLOW_S, &ferry__v1__acquire_pool_reply__descriptor, cli_show_acquire,
	 NULL},
	{"release", "POOL", "stop serving a pool on this node",
	 "  --force        also while its volume is in use: what is not synced is lost\n"
	 "What the cluster manager's stop does. Returns once no I/O of it can leave this node. An\n"
	 "acquire that still waits is withdrawn.\n",
	 "ReleasePool", 1, SLOW_S, &ferry__v1__release_pool_reply__descriptor, cli_show_nothing,
	 NULL},
	{"move", "POOL NODE", "hand a pool over to another node; its warm cache follows",
	 "  --force        also while its volume is in use: what is not synced is lost\n"
	 "NODE is a name or a number; its path to the lun has to work. Where Pacemaker manages "
	 "the\n"
	 "pool, move the resource instead: it would move the pool back.\n",
	 "MovePool", 2, SLOW_S, &ferry__v1__move_pool_reply__descriptor, cli_show_move, NULL},
	{"own", "POOL", "take a pool without the word of nodes that do not answer",
	 "  --force        which is what this is for; else: ferry acquire\n"
	 "  --yes          answers the question: those nodes are powered off, and the storage has\n"
	 "                 ended what they had sent\n"
	 "Where acquire is refused: on a lun without reservations nothing keeps a node that still\n"
	 "runs from writing; on others some of what it sent may not be provable dead, or the\n"
	 "registrations of two nodes are gone. What can be proven is, all registrations but those\n"
	 "of the group are removed first, and the rest rests on your word, which is good for as\n"
	 "long as this command waits (--timeout). It takes the place of an acquire that waits.\n",
	 "ForcePool", 1, SLOW_S, &ferry__v1__acquire_pool_reply__descriptor, cli_show_acquire,
	 cli_own},
	{"clear", "POOL", "have flushes succeed again after a lost cache",
	 "  --force        also while its volume is in use: who uses it may miss what it wrote\n"
	 "  --yes          answers the question that is asked before\n"
	 "Where ferry status says that flushes fail: what was written and not synced may be lost.\n"
	 "Stop what uses the volume, unmount, ferry detach, clear; then have filesystem and\n"
	 "application recover. To release and acquire the pool does as much.\n",
	 "ClearPool", 1, QUICK_S, &ferry__v1__clear_pool_reply__descriptor, cli_show_nothing,
	 cli_clear},
	{"keys", "[POOL|LUN]", "the registrations at the luns, read there just now",
	 "  --clean        remove from the pool those of nodes without an agent, and older ones\n"
	 "  --foreign      with --clean: also those that are not Ferry's\n"
	 "  --yes          with --clean: answers the questions that are asked before\n"
	 "STALE registrations are nobody's: of a node without an agent in the group, or of an\n"
	 "earlier agent. While they are there, what they had in flight may still land. x2: the "
	 "lun\n"
	 "lists it twice, for two ways there. LUN is its name in the configuration or its WWID.\n"
	 "Where nothing is stale, --clean says so, with exit code 0; without quorum it is "
	 "refused.\n",
	 "ListKeys", 1, QUICK_S, &ferry__v1__key_list__descriptor, cli_show_keys, cli_keys},
	{"fence", "NODE", "keep a node from writing to the pools",
	 "  --pool POOL    only to this one\n"
	 "  --check        only say how it is: changes nothing, and asks nothing\n"
	 "  --yes          answers the question that is asked before\n"
	 "What fence_ferry does for Pacemaker. The node loses ownership and registrations; it\n"
	 "is not powered off. Exit code 0 only if it is fenced, verified for each pool, of\n"
	 "--check too; 1 if not, or if that is not known: which, is said.\n",
	 "FenceNode", 1, SLOW_S, &ferry__v1__fence_report__descriptor, cli_show_fence, cli_fence},
	{"torture", "VOLUME", "break a scratch volume's I/O, and check that it keeps its word",
	 "  --seconds N    for so long (default: 60)\n"
	 "  --seed S       of the faults and the workload; the report says which it was\n"
	 "  --nbd URI      the volume's front end (default: as ferry volumes has it)\n"
	 "  --report FILE  the report as JSON, and the history of each violation\n"
	 "Overwrites the volume's first 4 MiB. Only where the pool says scratch = yes, and while\n"
	 "nobody uses the volume, another run neither. The faults\n"
	 "are errors, delays, lost requests and answers, and writes that land late, on this\n"
	 "node's own path. Exit code 7: a read returned what no disk could have returned.\n",
	 "ArmFaults", 1, QUICK_S, NULL, NULL, cli_torture},
	{"events", "", "what happened, each with its cause",
	 "  --follow, -f   go on with those to come\n"
	 "  --from N       begin with event number N (default: the oldest that is kept)\n"
	 "VALUE is what the event counts, or the key that it is about; CHANGE the old state and "
	 "the\n"
	 "new one. With --json one object a line. Ends after --timeout only if that is given.\n",
	 "WatchEvents", 0, 0, &ferry__v1__event__descriptor, cli_show_event, run_events},
	{"keygen", "FILE", "make a new cluster key, for agents to know each other by",
	 "Copy it, unchanged, to every node as key_file, owned by root, mode 0600.\n", NULL, 1, 0,
	 NULL, NULL, NULL},
	{"version", "", "of this command and of the agent", "", "GetVersion", 0, QUICK_S,
	 &ferry__v1__version__descriptor, cli_show_version, NULL},
};

static void print_help(FILE *to)
{
	fprintf(to, "usage: ferry [OPTION...] COMMAND [ARGUMENT...]\n\n");
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(commands); i++)
		fprintf(to, "  %-8s %-11s %s\n", commands[i].name, commands[i].arguments,
			commands[i].summary);
	fprintf(to,
		"\n"
		"  --json, -j          for machines\n"
		"  --socket, -s PATH   the agent's socket (default: $FERRY_SOCKET or %s)\n"
		"  --timeout, -t SEC   wait no longer (default: %d, for changes %d)\n"
		"  --help, -h          this, or a command's help\n"
		"  --version, -V       of this command\n"
		"\n"
		"exit codes: 0 done; 1 failed; 2 wrong usage; 3 no agent is running; 4 no such "
		"pool,\n"
		"volume or node; 5 refused (not the owner, no quorum, in use, the answer was no); "
		"6 no\n"
		"answer in time: "
		"what was begun may go on; 7 ferry torture found a violation\n",
		socket_default, QUICK_S, SLOW_S);
}

static void print_command_help(const struct command *command)
{
	printf("usage: ferry [OPTION...] %s%s%s\n\n%s\n", command->name,
	       command->arguments[0] ? " " : "", command->arguments, command->summary);
	if (command->details[0])
		printf("\n%s", command->details);
	printf("\nOptions and exit codes: ferry --help\n");
}

static int usage_error(const char *format, const char *what)
{
	fprintf(stderr, "ferry: ");
	/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral) */
	fprintf(stderr, "%s%s\ntry: ferry --help\n", format, what);
	return CLI_USAGE;
}

static bool number_parse(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > max)
		return false;
	*ret = value;
	return true;
}

static int exit_of(int error)
{
	switch (-error) {
	case 0:
		return CLI_OK;
	case EINVAL:
		return CLI_USAGE;
	case ECONNREFUSED:
		return CLI_NO_AGENT;
	case ENOENT:
		return CLI_NOT_FOUND;
	case EPERM:
		return CLI_REFUSED;
	case ETIMEDOUT:
		return CLI_TIMEOUT;
	case EBADMSG:
		return CLI_VIOLATION;
	default:
		return CLI_FAILED;
	}
}

static void json_print(const ProtobufCMessage *message, int flags)
{
	struct json_object *object = cli_json_of(message);

	printf("%s\n", json_object_to_json_string_ext(object, flags));
	json_object_put(object);
}

void cli_print(const struct cli_agent *agent, const ProtobufCMessage *message,
	       void (*show)(const ProtobufCMessage *message))
{
	if (agent->options->is_json)
		json_print(message, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE);
	else
		show(message);
}

int cli_call(const struct cli_agent *agent, const char *method, const ProtobufCMessage *input,
	     const ProtobufCMessageDescriptor *output, ProtobufCMessage **ret,
	     struct ferry_error *reterr)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/ferry.v1.Ferry/%s", method);
	return ferry_grpc_client_call(agent->client, path, input, output,
				      agent->timeout_s * FERRY_NS_PER_S, ret, reterr);
}

struct event_print {
	bool is_json;
	bool has_titles;
};

static bool on_event(const ProtobufCMessage *message, void *context)
{
	struct event_print *print = context;

	if (print->is_json) {
		json_print(message, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	} else {
		if (!print->has_titles)
			cli_show_event_titles();
		print->has_titles = true;
		cli_show_event(message);
	}
	return fflush(stdout) == 0; /* Each at once, and none to a reader that left. */
}

static int run_events(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__WatchEventsRequest request = FERRY__V1__WATCH_EVENTS_REQUEST__INIT;
	struct event_print print = {.is_json = agent->options->is_json};

	request.from_sequence = agent->options->from_sequence;
	request.follow = agent->options->is_follow;
	return ferry_grpc_client_stream(agent->client, "/ferry.v1.Ferry/WatchEvents", &request.base,
					&ferry__v1__event__descriptor,
					agent->timeout_s * FERRY_NS_PER_S, on_event, &print,
					reterr);
}

/* What is left to be done here with the agent's answer. */
static int finish(const struct cli_agent *agent, ProtobufCMessage *message,
		  struct ferry_error *reterr)
{
	if (message->descriptor == &ferry__v1__attach_volume_reply__descriptor)
		return cli_attach(message, reterr);
	if (message->descriptor == &ferry__v1__detach_volume_reply__descriptor)
		return cli_detach(agent, message, reterr);
	if (message->descriptor == &ferry__v1__volume_list__descriptor)
		cli_volumes(message);
	return 0;
}

/* Requests differ in their names only, so one that has them all at hand fits each. */
static int run_call(const struct cli_agent *agent, const struct command *command,
		    struct ferry_error *reterr)
{
	Ferry__V1__GetStatusRequest none = FERRY__V1__GET_STATUS_REQUEST__INIT;
	Ferry__V1__AcquirePoolRequest one = FERRY__V1__ACQUIRE_POOL_REQUEST__INIT;
	Ferry__V1__MovePoolRequest two = FERRY__V1__MOVE_POOL_REQUEST__INIT;
	const ProtobufCMessage *inputs[] = {&none.base, &one.base, &two.base};
	const char *const *arguments = agent->options->arguments;
	ProtobufCMessage *message = NULL;
	int r;

	ferry_assert(command->arguments_count <= CLI_ARGUMENTS_MAX);
	/* Field 1 is the pool or the volume, field 2 the node; see ferry.proto. */
	if (command->arguments_count >= 1)
		one.pool = two.pool = (char *)(uintptr_t)arguments[0]; /* Only read. */
	if (command->arguments_count >= 2)
		two.node = (char *)(uintptr_t)arguments[1];
	/* Field 2 of the requests with one name, if they have one: take, or force. */
	one.take = agent->options->is_take || agent->options->is_force;
	two.force = agent->options->is_force;
	r = cli_call(agent, command->method, inputs[command->arguments_count], command->output,
		     &message, reterr);
	if (r < 0)
		return r;
	r = finish(agent, message, reterr);
	if (r == 0)
		cli_print(agent, message, command->show);
	protobuf_c_message_free_unpacked(message, NULL);
	return r;
}

/* The one command that asks no agent. */
static int run_keygen(const char *path)
{
	struct ferry_error error = {0};

	if (ferry_auth_file_create(path, &error) < 0) {
		fprintf(stderr, "ferry: keygen: %s\n", error.message);
		return CLI_FAILED;
	}
	return CLI_OK;
}

static int run(const struct command *command, const struct cli_options *options)
{
	struct cli_agent agent = {.options = options,
				  .timeout_s = options->timeout_s ? options->timeout_s
								  : command->timeout_s};
	struct ferry_error error = {0};
	int r;

	r = ferry_grpc_client_open(options->socket_path, &agent.client, &error);
	if (r < 0) {
		fprintf(stderr, "ferry: %s\n", error.message);
		return r == -ENOENT || r == -ECONNREFUSED ? CLI_NO_AGENT : CLI_FAILED;
	}
	r = command->run ? command->run(&agent, &error) : run_call(&agent, command, &error);
	ferry_grpc_client_close(agent.client);
	if (r < 0) {
		char clean[FERRY_ERROR_MESSAGE_MAX];

		cli_clean(clean, sizeof(clean), error.message);
		fprintf(stderr, "ferry: %s: %s\n", command->name, clean);
		return exit_of(r);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "ferry: cannot write the answer\n");
		return CLI_FAILED;
	}
	return CLI_OK;
}

/* Long options without a letter. */
enum {
	OPTION_FROM = 256,
	OPTION_POOL,
	OPTION_SECONDS,
	OPTION_SEED,
	OPTION_NBD,
	OPTION_REPORT,
};

/* -1: go on; else the exit code. */
static int option_take(int option, const char *text, struct cli_options *options)
{
	options->is_torture |= option >= OPTION_SECONDS;
	switch (option) {
	case OPTION_FROM:
		options->is_from_given = true;
		if (!number_parse(text, UINT64_MAX, &options->from_sequence))
			return usage_error("--from wants a number, not ", text);
		break;
	case OPTION_POOL:
		options->pool = text;
		break;
	case OPTION_SECONDS:
		if (!number_parse(text, TIMEOUT_S_MAX, &options->seconds) || options->seconds == 0)
			return usage_error("--seconds wants 1 to 86400, not ", text);
		break;
	case OPTION_SEED: /* A plan's text has room for this. */
		if (!number_parse(text, SEED_MAX, &options->seed) || options->seed == 0)
			return usage_error("--seed wants 1 to 999999, not ", text);
		break;
	case OPTION_NBD:
		options->nbd = text;
		break;
	default:
		options->report = text;
		break;
	}
	return -1;
}

/* -1: go on; else the exit code. */
static int options_parse(int argc, char **argv, struct cli_options *options)
{
	const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"socket", required_argument, NULL, 's'},
		{"timeout", required_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"follow", no_argument, NULL, 'f'},
		{"from", required_argument, NULL, OPTION_FROM},
		{"clean", no_argument, &options->is_clean, 1},
		{"foreign", no_argument, &options->is_foreign, 1},
		{"force", no_argument, &options->is_force, 1},
		{"take", no_argument, &options->is_take, 1},
		{"yes", no_argument, &options->is_yes, 1},
		{"pool", required_argument, NULL, OPTION_POOL},
		{"check", no_argument, &options->is_check, 1},
		{"seconds", required_argument, NULL, OPTION_SECONDS},
		{"seed", required_argument, NULL, OPTION_SEED},
		{"nbd", required_argument, NULL, OPTION_NBD},
		{"report", required_argument, NULL, OPTION_REPORT},
		{0},
	};
	int option, code;

	while ((option = getopt_long(argc, argv, "js:t:hVf", longs, NULL)) != -1) {
		switch (option) {
		case 0: /* A flag. */
			break;
		case 'j':
			options->is_json = true;
			break;
		case 's':
			options->socket_path = optarg;
			break;
		case 't':
			if (!number_parse(optarg, TIMEOUT_S_MAX, &options->timeout_s) ||
			    options->timeout_s == 0)
				return usage_error("--timeout wants 1 to 86400 seconds, not ",
						   optarg);
			break;
		case 'h':
			options->is_help = true;
			break;
		case 'V':
			printf("ferry " FERRY_VERSION "\n");
			return CLI_OK;
		case 'f':
			options->is_follow = true;
			break;
		case OPTION_FROM:
		case OPTION_POOL:
		case OPTION_SECONDS:
		case OPTION_SEED:
		case OPTION_NBD:
		case OPTION_REPORT:
			code = option_take(option, optarg, options);
			if (code >= 0)
				return code;
			break;
		default:
			fprintf(stderr, "try: ferry --help\n");
			return CLI_USAGE;
		}
	}
	return -1;
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static bool is_method(const struct command *command, const char *method)
{
	return command->method && strcmp(command->method, method) == 0;
}

/* -1: each option is one of the command's; else the exit code. */
static int options_check(const struct command *command, const struct cli_options *options)
{
	bool is_own = command->run == cli_own;
	bool is_keys = command->run == cli_keys;
	bool is_clear = command->run == cli_clear;

	if ((options->is_follow || options->is_from_given) && command->run != run_events)
		return usage_error("--follow and --from are for events, not for ", command->name);
	if ((options->is_clean || options->is_foreign) && !is_keys)
		return usage_error("--clean and --foreign are for keys, not for ", command->name);
	if (options->is_force && !is_own && !is_method(command, "ReleasePool") &&
	    !is_method(command, "MovePool") && !is_clear)
		return usage_error("--force is for own, release, move and clear, not for ",
				   command->name);
	if (options->is_take && !is_method(command, "AcquirePool"))
		return usage_error("--take is for acquire, not for ", command->name);
	if (options->is_yes && !is_own && !is_keys && !is_clear && command->run != cli_fence)
		return usage_error("--yes is for own, clear, keys and fence, not for ",
				   command->name);
	if (options->is_torture && command->run != cli_torture)
		return usage_error(
			"--seconds, --seed, --nbd and --report are for torture, not for ",
			command->name);
	if ((options->pool || options->is_check) && command->run != cli_fence)
		return usage_error("--pool and --check are for fence, not for ", command->name);
	return -1;
}

int main(int argc, char **argv)
{
	const char *socket_path = getenv("FERRY_SOCKET");
	struct cli_options options = {.socket_path = socket_path ? socket_path : socket_default};
	const struct command *command;
	size_t arguments_count;
	int code;

	code = options_parse(argc, argv, &options);
	if (code >= 0)
		return code;
	if (optind == argc) {
		print_help(options.is_help ? stdout : stderr);
		return options.is_help ? CLI_OK : CLI_USAGE;
	}
	command = command_find(argv[optind]);
	if (!command)
		return usage_error("no such command: ", argv[optind]);
	if (options.is_help) {
		print_command_help(command);
		return CLI_OK;
	}
	arguments_count = (size_t)(argc - optind - 1);
	if (arguments_count != command->arguments_count &&
	    (arguments_count != 0 || command->arguments[0] != '[')) {
		fprintf(stderr, "usage: ferry [OPTION...] %s%s%s\ntry: ferry --help\n",
			command->name, command->arguments[0] ? " " : "", command->arguments);
		return CLI_USAGE;
	}
	code = options_check(command, &options);
	if (code >= 0)
		return code;
	for (size_t i = 0; i < arguments_count; i++)
		options.arguments[i] = argv[optind + 1 + (int)i];
	return command->method ? run(command, &options) : run_keygen(options.arguments[0]);
}
