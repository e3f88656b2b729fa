#include "agent/adapters/pacemaker/stonith.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/pacemaker/process.h"

enum { OUTPUT_BYTES_MAX = 1024 * 1024 };
#define DEADLINE_NS_DEFAULT (10 * FERRY_NS_PER_S)

struct ferry_stonith {
	struct ferry_power power;
	struct ferry_stonith_config config;
	char program[256];
	pid_t pid;		  /* 0: none runs. */
	struct ferry_watch watch; /* Of its output. */
	struct ferry_timer deadline_timer;
	struct ferry_task failed_task; /* It could not be started. */
	struct ferry_power_report report;
	char why[320];
	size_t length;
	char output[OUTPUT_BYTES_MAX];
};

static uint64_t wall_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec;
}

/* It has closed its output, or has to end: what it says of itself is in there, or it is not. */
static void process_end(struct ferry_stonith *stonith)
{
	struct ferry_loop *loop = stonith->config.loop;

	loop->ops->timer_stop(loop, &stonith->deadline_timer);
	loop->ops->watch_stop(loop, &stonith->watch);
	close(stonith->watch.fd);
	stonith->watch.fd = -1;
	(void)kill(stonith->pid, SIGKILL); /* Not reaped yet, so the number is still its own. */
	(void)waitpid(stonith->pid, NULL, 0);
	stonith->pid = 0;
}

static void answer(struct ferry_stonith *stonith, int error, const char *what)
{
	if (error < 0)
		(void)snprintf(stonith->why, sizeof(stonith->why), "%s: %s: %s", stonith->program,
			       what, strerror(-error));
	stonith->power.on_report(&stonith->power, error < 0 ? NULL : &stonith->report,
				 error < 0 ? stonith->why : NULL);
}

static void on_output(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_stonith *stonith = FERRY_CONTAINER_OF(watch, struct ferry_stonith, watch);
	size_t room = sizeof(stonith->output) - stonith->length;
	ssize_t got = read(watch->fd, stonith->output + stonith->length, room);
	int r;

	(void)ready;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0 && (size_t)got < room) {
		stonith->length += (size_t)got;
		return;
	}
	r = got < 0 ? -errno : got > 0 ? -E2BIG : 0;
	process_end(stonith);
	if (r == 0)
		r = ferry_history_parse(stonith->output, stonith->length, &stonith->config.agents,
					&stonith->report);
	stonith->report.answered_s = wall_s();
	answer(stonith, r, "the history of fencings cannot be read");
}

static void on_deadline(struct ferry_timer *timer)
{
	struct ferry_stonith *stonith =
		FERRY_CONTAINER_OF(timer, struct ferry_stonith, deadline_timer);

	process_end(stonith);
	answer(stonith, -ETIMEDOUT, "no history of fencings");
}

static void on_failed(struct ferry_task *task)
{
	struct ferry_stonith *stonith = FERRY_CONTAINER_OF(task, struct ferry_stonith, failed_task);

	answer(stonith, -EIO, "cannot be run");
}

static int process_begin(struct ferry_stonith *stonith)
{
	static char once[] = "--one-shot", as_xml[] = "--output-as=xml";
	static char what[] = "--include=none,nodes,resources,fencing";
	static char all[] = "--fence-history=3", inactive[] = "--inactive";
	char *arguments[] = {stonith->program, once, as_xml, what, all, inactive, NULL};
	struct ferry_loop *loop = stonith->config.loop;
	int ends[2];
	int r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	stonith->length = 0;
	stonith->report.asked_s = wall_s();
	r = ferry_process_start(stonith->program, arguments, ends[1], &stonith->pid);
	close(ends[1]);
	if (r < 0) {
		stonith->pid = 0;
		close(ends[0]);
		return r;
	}
	stonith->watch.fd = ends[0];
	r = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (r == 0)
		r = loop->ops->watch_start(loop, &stonith->watch, FERRY_WATCH_READ);
	if (r == 0) {
		ferry_timer_start_in(loop, &stonith->deadline_timer, stonith->config.deadline_ns);
		return 0;
	}
	(void)kill(stonith->pid, SIGKILL);
	(void)waitpid(stonith->pid, NULL, 0);
	stonith->pid = 0;
	close(ends[0]);
	return r;
}

static void stonith_look(struct ferry_power *power)
{
	struct ferry_stonith *stonith = FERRY_CONTAINER_OF(power, struct ferry_stonith, power);

	FERRY_ASSERT_ON_LOOP(stonith->config.loop);
	ferry_assert(stonith->pid == 0);
	if (process_begin(stonith) < 0)
		ferry_task_post(stonith->config.loop, &stonith->failed_task);
}

static const struct ferry_power_ops stonith_ops = {.name = "pacemaker", .look = stonith_look};

struct ferry_power *ferry_stonith_power(struct ferry_stonith *stonith)
{
	ferry_assert(stonith);
	return &stonith->power;
}

int ferry_stonith_open(const struct ferry_stonith_config *config, struct ferry_stonith **ret,
		       struct ferry_error *reterr)
{
	const char *program = config->program ? config->program : "/usr/sbin/crm_mon";
	struct ferry_stonith *stonith;

	ferry_assert(config->loop && ret && strlen(program) < sizeof(stonith->program));
	if (access(program, X_OK) < 0)
		return ferry_error_set(reterr, -ENOENT, "cannot run %s: is pacemaker installed?",
				       program);
	stonith = calloc(1, sizeof(*stonith));
	if (!stonith)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the history of fencings");
	stonith->config = *config;
	if (config->deadline_ns == 0)
		stonith->config.deadline_ns = DEADLINE_NS_DEFAULT;
	stonith->power.ops = &stonith_ops;
	stonith->watch = (struct ferry_watch){.run = on_output, .fd = -1};
	stonith->deadline_timer.run = on_deadline;
	stonith->failed_task.run = on_failed;
	(void)snprintf(stonith->program, sizeof(stonith->program), "%s", program);
	*ret = stonith;
	return 0;
}

void ferry_stonith_close(struct ferry_stonith *stonith)
{
	if (!stonith)
		return;
	ferry_task_cancel(stonith->config.loop, &stonith->failed_task);
	if (stonith->pid != 0)
		process_end(stonith);
	free(stonith);
}
