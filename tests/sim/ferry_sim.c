/* ferry-sim - run seeds through the simulated cluster. See --help. */
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/sim_chaos.h"
#include "tests/sim/sim_seeds.h"

enum { JOBS_MAX = 64 };

struct command_line {
	uint64_t first;
	uint64_t last;
	uint32_t jobs;
	bool is_json;
	bool twice;
	bool minimises;
	struct sim_chaos_options options;
};

static void usage(FILE *to)
{
	fputs("usage: ferry-sim --seed S [--trace] [OPTION...]\n"
	      "       ferry-sim --seeds A..B [--jobs N] [--json] [OPTION...]\n"
	      "       ferry-sim --minimise S\n"
	      "Run whole clusters under faults, each drawn from its seed, and check what comes of "
	      "it.\n"
	      "  --trace         one line per event\n"
	      "  --jobs N        so many seeds at once\n"
	      "  --json          one JSON object per seed, and one with the sums\n"
	      "  --minimise S    leave out faults, and end early, while it still goes wrong\n"
	      "  --twice         run each seed twice and compare the traces' hashes\n"
	      "  --strict-reads  a deposed node's stale read is a violation, not a figure\n"
	      "  --canary        path adapters take timeouts for failures; about every other seed\n"
	      "                  finds it out\n"
	      "Exit codes, of --minimise and --canary too: 0 nothing is wrong; of several\n"
	      "seeds the worst: 127 crash, 128 liveness, 129 a broken promise; 1 failed to run\n"
	      "them; 2 wrong usage.\n",
	      to);
}

static _Noreturn void wrong(const char *what, const char *value)
{
	sim_usage_error("ferry-sim", what, value);
}

static uint64_t seed_of(const char *option, const char *text)
{
	uint64_t seed = 0;

	if (!sim_number_parse(text, UINT64_MAX, &seed))
		wrong(option, text);
	return seed;
}

/* One option and its value. */
static void take(int option, const char *value, struct command_line *ret)
{
	uint64_t jobs = 0;

	switch (option) {
	case 's':
		ret->first = ret->last = seed_of("--seed wants a number from 0, not ", value);
		break;
	case 'm':
		ret->first = ret->last = seed_of("--minimise wants a seed from 0, not ", value);
		break;
	case 'S':
		if (!sim_seeds_parse(value, &ret->first, &ret->last))
			wrong("--seeds wants A..B, A no more than B, not ", value);
		break;
	case 'J':
		if (!sim_number_parse(value, JOBS_MAX, &jobs) || jobs == 0)
			wrong("--jobs wants 1 to 64, not ", value);
		ret->jobs = (uint32_t)jobs;
		break;
	case 't':
		ret->options.is_tracing = true;
		break;
	case 'j':
		ret->is_json = true;
		break;
	case '2':
		ret->twice = true;
		break;
	case 'r':
		ret->options.strict_reads = true;
		break;
	case 'c':
		ret->options.takes_timeouts_as_failures = true;
		break;
	case 'h':
		usage(stdout);
		exit(0);
	default: /* getopt_long() has named it. */
		fputs("try: ferry-sim --help\n", stderr);
		exit(SIM_EXIT_USAGE);
	}
}

static void parse(int argc, char **argv, struct command_line *ret)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"seeds", required_argument, NULL, 'S'},
		{"trace", no_argument, NULL, 't'},
		{"json", no_argument, NULL, 'j'},
		{"twice", no_argument, NULL, '2'},
		{"strict-reads", no_argument, NULL, 'r'},
		{"canary", no_argument, NULL, 'c'},
		{"jobs", required_argument, NULL, 'J'},
		{"minimise", required_argument, NULL, 'm'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	uint32_t seeds = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		take(c, optarg, ret);
		seeds += c == 's' || c == 'S' || c == 'm';
		ret->minimises |= c == 'm';
	}
	if (optind < argc)
		wrong("not an option: ", argv[optind]);
	if (seeds != 1)
		wrong("wants one of --seed, --seeds and --minimise", "");
}

/* ---- Many at once, each in a process of its own: a failed assertion takes no other seed along. */

struct job {
	pid_t child;
	int from; /* The child's result. */
	struct sim_result result;
	size_t got;
};

static void job_start(struct job *job, uint64_t seed, const struct command_line *line)
{
	struct sim_result result;
	struct sim_result again;
	int pipes[2];
	ssize_t written;

	*job = (struct job){.result = {.seed = seed, .exit_code = SIM_EXIT_CRASH}};
	(void)snprintf(job->result.what, sizeof(job->result.what),
		       "crashed: run it alone to see where");
	fflush(stdout);
	if (pipe(pipes) < 0 || (job->child = fork()) < 0) {
		perror("ferry-sim");
		exit(SIM_EXIT_FAILED);
	}
	if (job->child > 0) {
		close(pipes[1]);
		job->from = pipes[0];
		return;
	}
	close(pipes[0]);
	sim_chaos_run(seed, &line->options, &result);
	if (line->twice) {
		sim_chaos_run(seed, &line->options, &again);
		if (again.trace_hash != result.trace_hash) {
			result.exit_code = SIM_EXIT_WRONG;
			(void)snprintf(result.what, sizeof(result.what),
				       "two runs of one seed differ");
		}
	}
	fflush(stdout);
	written = write(pipes[1], &result, sizeof(result));
	_exit(written == (ssize_t)sizeof(result) ? 0 : 1);
}

/* Whether it is over. */
static bool job_read(struct job *job)
{
	struct sim_result crashed = job->result;
	ssize_t r =
		read(job->from, (char *)&job->result + job->got, sizeof(job->result) - job->got);

	if (r > 0 && (job->got += (size_t)r) < sizeof(job->result))
		return false;
	if (job->got < sizeof(job->result))
		job->result = crashed;
	close(job->from);
	(void)waitpid(job->child, NULL, 0);
	return true;
}

/* ---- What is printed. ---- */

static const struct {
	size_t offset;
	const char *name;
	const char *text;
} figures[] = {
#define FIGURE(name, text) {offsetof(struct sim_result, name), #name, text},
	SIM_FIGURES(FIGURE)
#undef FIGURE
};

static uint64_t *figure_of(struct sim_result *result, size_t i)
{
	return (uint64_t *)(void *)((char *)result + figures[i].offset);
}

static void sum_up(struct sim_result *sum, struct sim_result *result)
{
	sum->steps += result->steps;
	sum->simulated_ns += result->simulated_ns;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(figures); i++)
		*figure_of(sum, i) += *figure_of(result, i);
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		sum->faults[i] += result->faults[i];
}

static void print_json_figures(struct sim_result *result)
{
	printf(",\"steps\":%" PRIu64 ",\"simulated_ms\":%" PRIu64, result->steps,
	       result->simulated_ns / FERRY_NS_PER_MS);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(figures); i++)
		printf(",\"%s\":%" PRIu64, figures[i].name, *figure_of(result, i));
	printf(",\"faults\":{");
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		printf("%s\"%s\":%" PRIu64, i ? "," : "", sim_fault_name((enum sim_fault)i),
		       result->faults[i]);
	printf("}");
}

static void print_result(struct sim_result *result, bool is_json)
{
	if (is_json) {
		printf("{\"seed\":%" PRIu64 ",\"exit\":%d,\"hash\":\"%016" PRIx64 "\",\"nodes\":%u",
		       result->seed, result->exit_code, result->trace_hash, result->nodes);
		print_json_figures(result);
		/* Texts are our own: nothing in them needs escaping. */
		printf(",\"what\":\"%s\"}\n", result->what);
	} else if (result->exit_code != 0) {
		printf("seed %" PRIu64 ": %d: %s\n", result->seed, result->exit_code, result->what);
	}
}

static void print_sum(struct sim_result *sum, uint64_t seeds, uint64_t bad, bool is_json)
{
	if (is_json) {
		printf("{\"seeds\":%" PRIu64 ",\"bad\":%" PRIu64, seeds, bad);
		print_json_figures(sum);
		printf("}\n");
		return;
	}
	printf("%" PRIu64 " seeds, %" PRIu64 " bad; %" PRIu64 " s simulated, %" PRIu64 " steps\n",
	       seeds, bad, sum->simulated_ns / FERRY_NS_PER_S, sum->steps);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(figures); i++)
		printf("%s%s %" PRIu64, i ? ", " : "", figures[i].text, *figure_of(sum, i));
	printf("\nfaults:");
	for (int i = 0; i < SIM_FAULTS_COUNT; i++)
		printf("%s %s %" PRIu64, i ? "," : "", sim_fault_name((enum sim_fault)i),
		       sum->faults[i]);
	printf("\n");
}

/* ---- All of them. ---- */

static int run_all(const struct command_line *line)
{
	static struct job jobs[JOBS_MAX];
	struct pollfd polls[JOBS_MAX];
	struct sim_result sum = {0};
	uint64_t next = line->first;
	uint64_t left = line->last - line->first + 1;
	uint64_t bad = 0;
	int worst = 0;

	for (uint32_t i = 0; i < line->jobs; i++)
		polls[i].fd = -1;
	while (left > 0) {
		for (uint32_t i = 0; i < line->jobs; i++) {
			if (polls[i].fd >= 0 || next > line->last || next < line->first)
				continue;
			job_start(&jobs[i], next++, line);
			polls[i] = (struct pollfd){.fd = jobs[i].from, .events = POLLIN};
		}
		if (poll(polls, line->jobs, -1) < 0)
			continue; /* Interrupted. */
		for (uint32_t i = 0; i < line->jobs; i++) {
			if (polls[i].fd < 0 || polls[i].revents == 0 || !job_read(&jobs[i]))
				continue;
			polls[i].fd = -1;
			left--;
			sum_up(&sum, &jobs[i].result);
			print_result(&jobs[i].result, line->is_json);
			bad += jobs[i].result.exit_code != 0;
			if (jobs[i].result.exit_code > worst)
				worst = jobs[i].result.exit_code;
		}
	}
	print_sum(&sum, line->last - line->first + 1, bad, line->is_json);
	return worst;
}

/* ---- Minimising. ---- */

static bool still_fails(struct command_line *line, int exit_code)
{
	struct job job;

	job_start(&job, line->first, line);
	while (!job_read(&job))
		;
	return job.result.exit_code == exit_code;
}

/* Leave out @size faults from @first on, if it still fails then. */
static bool leave_out(struct command_line *line, int exit_code, uint32_t first, uint32_t size)
{
	bool before[SIM_PLAN_MAX];

	memcpy(before, line->options.skip, sizeof(before));
	for (uint32_t i = first; i < first + size && i < SIM_PLAN_MAX; i++)
		line->options.skip[i] = true;
	if (memcmp(before, line->options.skip, sizeof(before)) == 0)
		return false;
	if (still_fails(line, exit_code))
		return true;
	memcpy(line->options.skip, before, sizeof(before));
	return false;
}

static int minimise(struct command_line *line)
{
	struct job job;
	bool is_less = true;
	int exit_code;

	job_start(&job, line->first, line);
	while (!job_read(&job))
		;
	exit_code = job.result.exit_code;
	if (exit_code == 0) {
		printf("seed %" PRIu64 ": nothing is wrong\n", line->first);
		return 0;
	}
	/* Halves, quarters, ..., single ones, until not one can be spared (Zeller's ddmin). */
	while (is_less) {
		is_less = false;
		for (uint32_t size = SIM_PLAN_MAX / 2; size > 0; size /= 2)
			for (uint32_t first = 0; first < job.result.planned; first += size)
				is_less |= leave_out(line, exit_code, first, size);
	}
	for (uint64_t ms = 16384; ms > 0; ms /= 2) { /* The shortest that still fails. */
		uint64_t before_ns = line->options.faults_ns_max;
		uint64_t from_ns = before_ns ? before_ns : 16 * FERRY_NS_PER_S;

		if (from_ns <= ms * FERRY_NS_PER_MS)
			continue;
		line->options.faults_ns_max = from_ns - ms * FERRY_NS_PER_MS;
		if (!still_fails(line, exit_code))
			line->options.faults_ns_max = before_ns;
	}
	printf("seed %" PRIu64 ", at its least:\n", line->first);
	line->options.lists_faults = true;
	job_start(&job, line->first, line);
	while (!job_read(&job))
		;
	printf("after %" PRIu64 " ms with faults, %d: %s\n",
	       line->options.faults_ns_max / FERRY_NS_PER_MS, job.result.exit_code,
	       job.result.what);
	return exit_code;
}

int main(int argc, char **argv)
{
	struct command_line line = {.jobs = 1};

	parse(argc, argv, &line);
	return line.minimises ? minimise(&line) : run_all(&line);
}
