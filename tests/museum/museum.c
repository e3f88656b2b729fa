/* ferry-museum - put one known mistake into the core and see whether the simulator finds it out. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/museum.h"
#include "tests/sim/sim_chaos.h"
#include "tests/sim/sim_seeds.h"

/* Of processor time: longer than any run takes that comes to an end by itself, many times over. */
enum { RUN_SECONDS_MAX = 30 };

enum ferry_museum_piece ferry_museum_exhibit;

struct piece {
	const char *name;
	const char *rules;
	const char *text;
};

static const struct piece pieces[FERRY_MUSEUM_COUNT] = {
#define PIECE(NAME, RULES, TEXT) [FERRY_MUSEUM_##NAME] = {#NAME, RULES, TEXT},
	FERRY_MUSEUM_PIECES(PIECE)
#undef PIECE
};

struct command_line {
	enum ferry_museum_piece piece;
	uint64_t first;
	uint64_t last;
	bool has_seeds;
	uint64_t before; /* This seed is tried before all others; 0: none. */
	bool is_counting;
};

static void usage(FILE *to)
{
	fputs("usage: ferry-museum --list\n"
	      "       ferry-museum --piece NAME --seeds A..B [--before SEED] [--count]\n"
	      "Run the simulator's seeds with one known mistake in the code, until one finds it "
	      "out;\n"
	      "a seed that fails without the mistake too shows nothing, and is passed over.\n"
	      "  --before SEED  try this one first\n"
	      "  --count        run them all, and say how many find it out\n"
	      "  --list         the pieces: name, the design's rules that it breaks, what it does\n"
	      "Exit codes: 0 found out; 1 not; 2 wrong usage; 3 failed to run them.\n",
	      to);
}

static enum ferry_museum_piece piece_find(const char *name)
{
	for (int i = 1; i < FERRY_MUSEUM_COUNT; i++)
		if (strcmp(pieces[i].name, name) == 0)
			return (enum ferry_museum_piece)i;
	return FERRY_MUSEUM_NOTHING;
}

static void list(void)
{
	for (int i = 1; i < FERRY_MUSEUM_COUNT; i++)
		printf("%-24s %-7s %s\n", pieces[i].name, pieces[i].rules, pieces[i].text);
}

static _Noreturn void wrong(const char *what, const char *value)
{
	sim_usage_error("ferry-museum", what, value);
}

/* One option and its value. */
static void take(int option, const char *value, struct command_line *ret)
{
	switch (option) {
	case 'l':
		list();
		exit(0);
	case 'h':
		usage(stdout);
		exit(0);
	case 'c':
		ret->is_counting = true;
		break;
	case 'p':
		ret->piece = piece_find(value);
		if (ret->piece == FERRY_MUSEUM_NOTHING)
			wrong("no such piece (see --list): ", value);
		break;
	case 's':
		if (!sim_seeds_parse(value, &ret->first, &ret->last))
			wrong("--seeds wants A..B, A no more than B, not ", value);
		ret->has_seeds = true;
		break;
	case 'b':
		if (!sim_number_parse(value, UINT64_MAX, &ret->before) || ret->before == 0)
			wrong("--before wants a seed from 1, not ", value);
		break;
	default: /* getopt_long() has named it. */
		fputs("try: ferry-museum --help\n", stderr);
		exit(SIM_EXIT_USAGE);
	}
}

static void parse(int argc, char **argv, struct command_line *ret)
{
	static const struct option options[] = {
		{"list", no_argument, NULL, 'l'},
		{"piece", required_argument, NULL, 'p'},
		{"seeds", required_argument, NULL, 's'},
		{"before", required_argument, NULL, 'b'},
		{"count", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		take(c, optarg, ret);
	if (optind < argc)
		wrong("not an option: ", argv[optind]);
	if (ret->piece == FERRY_MUSEUM_NOTHING)
		wrong("wants --piece NAME (see --list)", "");
	if (!ret->has_seeds)
		wrong("wants --seeds A..B", "");
}

static void read_all(int from, void *ret, size_t size_bytes)
{
	size_t got = 0;

	for (ssize_t r = 1; r > 0 && got<size_bytes; got += r> 0 ? (size_t)r : 0)
		r = read(from, (char *)ret + got, size_bytes - got);
	close(from);
}

static void child(uint64_t seed, int answer, int errors)
{
	/* What a deposed owner answers is a figure to the others; here it is a mistake like any. */
	const struct sim_chaos_options options = {.strict_reads = true};
	const struct rlimit limit = {RUN_SECONDS_MAX, RUN_SECONDS_MAX + 1};
	struct sim_result result;
	ssize_t written;

	(void)dup2(errors, STDERR_FILENO);
	(void)setrlimit(RLIMIT_CPU, &limit);
	sim_chaos_run(seed, &options, &result);
	written = write(answer, &result, sizeof(result));
	_exit(written == (ssize_t)sizeof(result) ? 0 : 1);
}

/* In a process of its own: a failed assertion is one of the ways to be found out. */
static void run(uint64_t seed, enum ferry_museum_piece piece, struct sim_result *ret)
{
	char said[200] = "";
	int answers[2];
	int errors[2];
	int status;
	pid_t pid;

	ferry_museum_exhibit = piece;
	*ret = (struct sim_result){.exit_code = SIM_EXIT_CRASH};
	if (pipe(answers) < 0 || pipe(errors) < 0 || (pid = fork()) < 0) {
		perror("ferry-museum");
		exit(3);
	}
	if (pid == 0)
		child(seed, answers[1], errors[1]);
	close(answers[1]);
	close(errors[1]);
	read_all(answers[0], ret, sizeof(*ret));
	read_all(errors[0], said, sizeof(said) - 1);
	(void)waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	ret->exit_code = SIM_EXIT_CRASH;
	said[strcspn(said, "\n")] = '\0';
	(void)snprintf(ret->what, sizeof(ret->what), "%s",
		       WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU ? "it never ends"
		       : said[0]					  ? said
									  : "it crashes");
}

/* Whether @seed shows the mistake: it fails with it, and passes without. */
static bool shows(uint64_t seed, enum ferry_museum_piece piece, struct sim_result *ret)
{
	struct sim_result without;

	run(seed, piece, ret);
	if (ret->exit_code == 0)
		return false;
	run(seed, FERRY_MUSEUM_NOTHING, &without);
	return without.exit_code == 0;
}

static int count(const struct command_line *line)
{
	struct sim_result result;
	uint64_t found = 0;

	for (uint64_t seed = line->first; seed <= line->last; seed++)
		found += shows(seed, line->piece, &result);
	printf("%-24s %" PRIu64 " of %" PRIu64 " seeds\n", pieces[line->piece].name, found,
	       line->last - line->first + 1);
	return found == 0;
}

int main(int argc, char **argv)
{
	struct command_line line = {0};
	struct sim_result result = {0};
	const struct piece *piece;
	uint64_t seed;

	parse(argc, argv, &line);
	if (line.is_counting)
		return count(&line);
	piece = &pieces[line.piece];
	printf("%-24s %-7s ", piece->name, piece->rules);
	for (seed = line.before ? line.before : line.first; seed <= line.last || line.before;) {
		if (shows(seed, line.piece, &result)) {
			printf("seed %-5" PRIu64 " %s\n", seed, result.what);
			return 0;
		}
		seed = seed == line.before ? line.first : seed + 1;
		line.before = 0;
	}
	printf("NOT FOUND OUT by seeds %" PRIu64 "..%" PRIu64 ": %s\n", line.first, line.last,
	       piece->text);
	return 1;
}
