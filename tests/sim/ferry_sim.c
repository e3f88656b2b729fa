/* ferry-sim - run seeds through the simulated cluster. See --help. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/sim_chaos.h"

struct command_line {
	uint64_t first;
	uint64_t last;
	bool is_json;
	bool twice;
	struct sim_chaos_options options;
};

static void usage(FILE *to)
{
	fputs("usage: ferry-sim --seed S [--trace] [OPTION...]\n"
	      "       ferry-sim --seeds A..B [OPTION...]\n"
	      "Run whole clusters under faults, each drawn from its seed, and check what comes of "
	      "it.\n"
	      "  --trace         one line per event\n"
	      "  --json          one JSON object per seed\n"
	      "  --twice         run each seed twice and compare the traces' hashes\n"
	      "  --strict-reads  a deposed node's stale read is a violation, not a figure\n"
	      "  --canary        path adapters take timeouts for failures: must be found out\n"
	      "Exit: 0 nothing wrong, 1 usage, 127 crash, 128 liveness, 129 a broken promise.\n",
	      to);
}

static bool parse_number(const char *text, char end, uint64_t *ret, const char **ret_rest)
{
	char *rest;

	errno = 0;
	*ret = strtoull(text, &rest, 0);
	if (errno != 0 || rest == text || *rest != end)
		return false;
	*ret_rest = rest;
	return true;
}

static bool parse_seeds(const char *text, struct command_line *ret)
{
	const char *rest;

	if (!parse_number(text, '.', &ret->first, &rest) || rest[1] != '.')
		return false;
	return parse_number(rest + 2, '\0', &ret->last, &rest) && ret->first <= ret->last;
}

static bool parse(int argc, char **argv, struct command_line *ret)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"seeds", required_argument, NULL, 'S'},
		{"trace", no_argument, NULL, 't'},
		{"json", no_argument, NULL, 'j'},
		{"twice", no_argument, NULL, '2'},
		{"strict-reads", no_argument, NULL, 'r'},
		{"canary", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool has_seed = false;
	const char *rest;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's' && parse_number(optarg, '\0', &ret->first, &rest)) {
			ret->last = ret->first;
			has_seed = true;
		} else if (c == 'S' && parse_seeds(optarg, ret)) {
			has_seed = true;
		} else if (c == 't') {
			ret->options.is_tracing = true;
		} else if (c == 'j') {
			ret->is_json = true;
		} else if (c == '2') {
			ret->twice = true;
		} else if (c == 'r') {
			ret->options.strict_reads = true;
		} else if (c == 'c') {
			ret->options.takes_timeouts_as_failures = true;
		} else {
			usage(c == 'h' ? stdout : stderr);
			exit(c == 'h' ? 0 : 1);
		}
	}
	return has_seed && optind == argc;
}

/* In a process of its own: a failed assertion must not take the other seeds with it. */
static void run_one(uint64_t seed, const struct sim_chaos_options *options, struct sim_result *ret)
{
	int pipes[2];
	int status;
	pid_t child;
	ssize_t got;

	*ret = (struct sim_result){.seed = seed, .exit_code = SIM_EXIT_CRASH};
	(void)snprintf(ret->what, sizeof(ret->what), "crashed: run it alone to see where");
	fflush(stdout);
	if (pipe(pipes) < 0 || (child = fork()) < 0) {
		perror("ferry-sim");
		exit(1);
	}
	if (child == 0) {
		struct sim_result result;

		close(pipes[0]);
		sim_chaos_run(seed, options, &result);
		fflush(stdout);
		got = write(pipes[1], &result, sizeof(result));
		_exit(got == (ssize_t)sizeof(result) ? 0 : 1);
	}
	close(pipes[1]);
	got = 0;
	for (ssize_t r = 1; r > 0 && (size_t)got < sizeof(*ret); got += r)
		r = read(pipes[0], (char *)ret + got, sizeof(*ret) - (size_t)got);
	close(pipes[0]);
	(void)waitpid(child, &status, 0);
	if (got != (ssize_t)sizeof(*ret))
		ret->exit_code = SIM_EXIT_CRASH;
}

static void print_json(const struct sim_result *result)
{
	printf("{\"seed\":%" PRIu64 ",\"exit\":%d,\"hash\":\"%016" PRIx64 "\",\"nodes\":%u,"
	       "\"steps\":%" PRIu64 ",\"simulated_ms\":%" PRIu64 ",\"ios\":%" PRIu64
	       ",\"errors\":%" PRIu64 ",\"detours\":%" PRIu64 ",\"ghosts_made\":%" PRIu64
	       ",\"ghosts_laid_late\":%" PRIu64 ",\"ghosts_laid_abort\":%" PRIu64
	       ",\"landed_late\":%" PRIu64 ",\"aborted\":%" PRIu64 ",\"conflicts\":%" PRIu64
	       ",\"preempts\":%" PRIu64 ",\"epochs\":%" PRIu64 ",\"stale_reads\":%" PRIu64
	       ",\"faults\":{",
	       result->seed, result->exit_code, result->trace_hash, result->nodes, result->steps,
	       result->simulated_ns / FERRY_NS_PER_MS, result->ios, result->errors, result->detours,
	       result->ghosts_made, result->ghosts_late, result->ghosts_aborted,
	       result->landed_late, result->aborted, result->conflicts, result->preempts,
	       result->epochs, result->stale_reads);
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		printf("%s\"%s\":%" PRIu64, i ? "," : "", sim_fault_name((enum sim_fault)i),
		       result->faults[i]);
	/* Texts are our own: nothing in them needs escaping. */
	printf("},\"what\":\"%s\"}\n", result->what);
}

static void sum_up(struct sim_result *sum, const struct sim_result *result)
{
	sum->steps += result->steps;
	sum->simulated_ns += result->simulated_ns;
	sum->ios += result->ios;
	sum->errors += result->errors;
	sum->detours += result->detours;
	sum->ghosts_made += result->ghosts_made;
	sum->ghosts_late += result->ghosts_late;
	sum->ghosts_aborted += result->ghosts_aborted;
	sum->landed_late += result->landed_late;
	sum->aborted += result->aborted;
	sum->conflicts += result->conflicts;
	sum->preempts += result->preempts;
	sum->epochs += result->epochs;
	sum->stale_reads += result->stale_reads;
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		sum->faults[i] += result->faults[i];
}

static void print_sum(const struct sim_result *sum, uint64_t seeds, uint64_t bad)
{
	printf("%" PRIu64 " seeds, %" PRIu64 " bad; %" PRIu64 " s simulated, %" PRIu64
	       " steps; I/Os %" PRIu64 ", errors %" PRIu64 ", detours %" PRIu64 "\n",
	       seeds, bad, sum->simulated_ns / FERRY_NS_PER_S, sum->steps, sum->ios, sum->errors,
	       sum->detours);
	printf("ghosts made %" PRIu64 ", laid late %" PRIu64 ", laid by abort %" PRIu64
	       "; landed late %" PRIu64 ", aborted %" PRIu64 ", conflicts %" PRIu64
	       ", preempts %" PRIu64 "; epochs %" PRIu64 "; stale reads of deposed nodes %" PRIu64
	       "\nfaults:",
	       sum->ghosts_made, sum->ghosts_late, sum->ghosts_aborted, sum->landed_late,
	       sum->aborted, sum->conflicts, sum->preempts, sum->epochs, sum->stale_reads);
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		printf(" %s %" PRIu64, sim_fault_name((enum sim_fault)i), sum->faults[i]);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct command_line line = {0};
	struct sim_result sum = {0};
	uint64_t bad = 0;
	int worst = 0;

	if (!parse(argc, argv, &line)) {
		usage(stderr);
		return 1;
	}
	for (uint64_t seed = line.first; seed <= line.last; seed++) {
		struct sim_result result;
		struct sim_result again;

		run_one(seed, &line.options, &result);
		if (line.twice) {
			run_one(seed, &line.options, &again);
			if (again.trace_hash != result.trace_hash) {
				result.exit_code = SIM_EXIT_WRONG;
				(void)snprintf(result.what, sizeof(result.what),
					       "two runs of one seed differ");
			}
		}
		sum_up(&sum, &result);
		if (line.is_json)
			print_json(&result);
		else if (result.exit_code != 0)
			printf("seed %" PRIu64 ": %d: %s\n", seed, result.exit_code, result.what);
		bad += result.exit_code != 0;
		worst = result.exit_code > worst ? result.exit_code : worst;
	}
	if (!line.is_json)
		print_sum(&sum, line.last - line.first + 1, bad);
	return worst;
}
