/*
 * torture_driver.c - the lab's application: the tagged workload on every node that serves, told by
 * lines on its standard input what happens around it.
 *
 *   torture_driver [-s SEED] [-m MiB] [-t] URI...     -t: a sector may be torn while it is written
 *
 *   lost       the target's volatile cache was lost, just now
 *   forgive    those who had been promised what was lost have been told
 *   drop N     the application at connection N has died
 *   hold N     that application is not to begin until it may
 *   go N       it may
 *   figures    answered by a line of JSON
 *   end        no more I/O; when all has ended, every sector is read; then JSON and the exit
 *
 * Every line is answered by one. Exit code 0; 1: it could not go on; 2: a violation.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/torture/load.h"

enum { LINE_BYTES = 256, END_SECONDS = 120 };

struct driver {
	struct torture_load load;
	char line[LINE_BYTES];
	uint32_t line_used;
	bool is_over;
};

static void figures_print(const struct torture_load *load)
{
	const struct torture_figures *f = &load->figures;

	printf("{\"reads\": %" PRIu64 ", \"writes\": %" PRIu64 ", \"fua_writes\": %" PRIu64
	       ", \"zeroes\": %" PRIu64 ", \"trims\": %" PRIu64 ", \"flushes\": %" PRIu64
	       ", \"errors\": %" PRIu64 ", \"flush_errors\": %" PRIu64 ", \"connections\": %" PRIu64
	       ", \"cut_off\": %" PRIu64 ", \"losses\": %" PRIu64 ", \"stall_ms_max\": %" PRIu64
	       ", \"latency_ms_max\": %" PRIu64 ", \"sectors_checked\": %" PRIu64
	       ", \"violations\": %" PRIu64 ", \"busy\": %u, \"idle_ms\": %" PRIu64
	       ", \"flush_failures\": [",
	       f->reads, f->writes, f->fua_writes, f->zeroes, f->trims, f->flushes, f->errors,
	       f->flush_errors, f->connections, f->cut_off, f->losses,
	       f->stall_ns_max / FERRY_NS_PER_MS, f->latency_ns_max / FERRY_NS_PER_MS,
	       load->check.sectors_checked, f->violations, load->busy,
	       (torture_now_ns() - load->success_ns) / FERRY_NS_PER_MS);
	for (uint32_t i = 0; i < load->clients_count; i++)
		printf("%s%u", i ? ", " : "", load->flush_failures[i]);
	printf("], \"ready\": [");
	for (uint32_t i = 0; i < load->clients_count; i++)
		printf("%s%d", i ? ", " : "", load->clients[i].state == TORTURE_CLIENT_READY);
	printf("]}\n");
}

static void obey(struct driver *driver, const char *line)
{
	struct torture_load *load = &driver->load;
	unsigned number;

	if (strcmp(line, "lost") == 0) {
		torture_load_lost(load);
	} else if (strcmp(line, "forgive") == 0) {
		torture_load_forgive(load);
	} else if (sscanf(line, "drop %u", &number) == 1 && number >= 1 &&
		   number <= load->clients_count) {
		torture_load_drop(load, number - 1);
	} else if (sscanf(line, "hold %u", &number) == 1 && number >= 1 &&
		   number <= load->clients_count) {
		torture_load_hold(load, number - 1, true);
	} else if (sscanf(line, "go %u", &number) == 1 && number >= 1 &&
		   number <= load->clients_count) {
		torture_load_hold(load, number - 1, false);
	} else if (strcmp(line, "figures") == 0) {
		figures_print(load);
		return;
	} else if (strcmp(line, "end") == 0) {
		driver->is_over = true;
		return; /* Answered at the end. */
	} else {
		printf("what is that?\n");
		return;
	}
	printf("done\n");
}

static void lines_read(struct driver *driver)
{
	ssize_t count = read(STDIN_FILENO, driver->line + driver->line_used,
			     LINE_BYTES - 1 - driver->line_used);
	char *end;

	if (count <= 0) {
		driver->is_over = true; /* Whoever steers has gone. */
		return;
	}
	driver->line_used += (uint32_t)count;
	driver->line[driver->line_used] = '\0';
	while ((end = strchr(driver->line, '\n'))) {
		*end = '\0';
		obey(driver, driver->line);
		driver->line_used -= (uint32_t)(end + 1 - driver->line);
		memmove(driver->line, end + 1, driver->line_used + 1);
	}
	if (driver->line_used == LINE_BYTES - 1)
		driver->line_used = 0;
}

static int finish(struct driver *driver)
{
	struct torture_load *load = &driver->load;
	const uint64_t deadline_ns = torture_now_ns() + END_SECONDS * FERRY_NS_PER_S;
	bool is_read;

	while (!torture_load_end(load) && torture_now_ns() < deadline_ns)
		torture_load_run(load, 20, -1, NULL);
	if (load->busy > 0) {
		fprintf(load->report, "%u I/Os did not end\n", load->busy);
		figures_print(load);
		return 1;
	}
	is_read = torture_load_read_all(load, END_SECONDS * FERRY_NS_PER_S);
	if (!is_read)
		fprintf(load->report, "the volume cannot be read at the end\n");
	for (uint32_t i = 0; i < load->clients_count; i++)
		if (load->clients[i].unasked > 0) {
			fprintf(load->report, "VIOLATION: connection %u: a reply to no request\n",
				i + 1);
			load->figures.violations++;
		}
	figures_print(load);
	return load->figures.violations > 0 ? 2 : is_read ? 0 : 1;
}

static int options_read(int argc, char **argv, struct driver *driver)
{
	struct torture_config config = {
		.seed = 1, .size_bytes = FERRY_MIB, .depth = 12, .think_ns = 4 * FERRY_NS_PER_MS};
	struct ferry_error error;
	bool tears = false; /* The lab's target does each I/O at once. */
	int option;

	while ((option = getopt(argc, argv, "s:m:t")) != -1) {
		if (option == 's')
			config.seed = strtoull(optarg, NULL, 10);
		else if (option == 'm')
			config.size_bytes = strtoull(optarg, NULL, 10) * FERRY_MIB;
		else if (option == 't')
			tears = true;
		else
			return -EINVAL;
	}
	if (torture_load_init(&driver->load, &config, &error) < 0) {
		fprintf(stderr, "torture_driver: %s\n", error.message);
		return -EINVAL;
	}
	driver->load.report = stderr;
	driver->load.check.config.storage_tears = tears;
	for (; optind < argc; optind++)
		if (torture_load_add(&driver->load, argv[optind], &error) < 0) {
			fprintf(stderr, "torture_driver: %s\n", error.message);
			return -EINVAL;
		}
	return 0;
}

int main(int argc, char **argv)
{
	static struct driver driver; /* Large. */
	struct ferry_error error;
	int result;

	if (options_read(argc, argv, &driver) < 0 || driver.load.clients_count == 0) {
		fprintf(stderr, "usage: torture_driver [-s SEED] [-m MiB] [-t] URI...\n");
		return 1;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (torture_load_wipe(&driver.load, 30 * FERRY_NS_PER_S, &error) < 0) {
		fprintf(stderr, "torture_driver: %s\n", error.message);
		return 1;
	}
	printf("ready\n");
	while (!driver.is_over) {
		bool is_told = false;

		torture_load_run(&driver.load, 5, STDIN_FILENO, &is_told);
		if (is_told)
			lines_read(&driver);
	}
	result = finish(&driver);
	torture_load_done(&driver.load);
	return result;
}
