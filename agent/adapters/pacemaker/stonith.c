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
#define KILLED_NS_MAX (FERRY_NS_PER_S)

struct ferry_stonith {
	struct ferry_power power;
	struct ferry_stonith_config config;
	char program[256];
	pid_t pid;			  /* 0: none runs. */
	struct ferry_watch process_watch; /* Of its end. */
	struct ferry_watch watch;	  /* Of its output; fd: -1: that is over. */
	struct ferry_timer deadline_timer;
	struct ferry_task failed_task; /* It could not be started. */
	bool is_asked;		       /* on_report() is due. */
	int error;		       /* What is to be answered, once its output is over... */
	const char *what;	       /* ...and why. */
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

static void answer(struct ferry_stonith *stonith)
{
	int error = stonith->error;

	ferry_assert(stonith->is_asked);
	stonith->is_asked = false;
	/* It ended before it could be said that it had not. */
	ferry_task_cancel(stonith->config.loop, &stonith->failed_task);
	if (error < 0)
		(void)snprintf(stonith->why, sizeof(stonith->why), "%s: %s: %s", stonith->program,
			       stonith->what, strerror(-error));
	stonith->power.on_report(&stonith->power, error < 0 ? NULL : &stonith->report,
				 error < 0 ? stonith->why : NULL);
}

static void watch_end(struct ferry_stonith *stonith, struct ferry_watch *watch)
{
	if (watch->fd < 0)
		return;
	stonith->config.loop->ops->watch_stop(stonith->config.loop, watch);
	close(watch->fd);
	watch->fd = -1;
}

/*
 * It has closed its output, or has to end: what it says of itself is in there, or it is not. The
 * answer follows once it is reaped. Nobody waits for that here: it may hang in the kernel, and this
 * thread has a quorum to look at.
 */
static void output_end(struct ferry_stonith *stonith, int error, const char *what)
{
	struct ferry_loop *loop = stonith->config.loop;

	stonith->error = error;
	stonith->what = what;
	watch_end(stonith, &stonith->watch);
	loop->ops->timer_stop(loop, &stonith->deadline_timer);
	if (stonith->pid == 0) {
		answer(stonith);
		return;
	}
	(void)kill(stonith->pid, SIGKILL); /* Not reaped yet, so the number is still its own. */
	ferry_timer_start_in(loop, &stonith->deadline_timer, KILLED_NS_MAX);
}

static void on_process(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_stonith *stonith =
		FERRY_CONTAINER_OF(watch, struct ferry_stonith, process_watch);
	struct ferry_loop *loop = stonith->config.loop;

	(void)ready;
	if (waitpid(stonith->pid, NULL, WNOHANG) == 0)
		return; /* Not yet. */
	watch_end(stonith, watch);
	stonith->pid = 0;
	if (stonith->watch.fd >= 0 || !stonith->is_asked)
		return; /* There is more to read; or nobody waits any more. */
	loop->ops->timer_stop(loop, &stonith->deadline_timer);
	answer(stonith);
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
	if (r == 0)
		r = ferry_history_parse(stonith->output, stonith->length, &stonith->config.agents,
					&stonith->report);
	stonith->report.answered_s = wall_s();
	output_end(stonith, r, "the history of fencings cannot be read");
}

static void on_deadline(struct ferry_timer *timer)
{
	struct ferry_stonith *stonith =
		FERRY_CONTAINER_OF(timer, struct ferry_stonith, deadline_timer);

	if (stonith->watch.fd >= 0) {
		output_end(stonith, -ETIMEDOUT, "no history of fencings");
		return;
	}
	stonith->error = -ETIMEDOUT;
	stonith->what = "it was killed, and does not end";
	answer(stonith);
}

static void on_failed(struct ferry_task *task)
{
	answer(FERRY_CONTAINER_OF(task, struct ferry_stonith, failed_task));
}

/* Watch its output, and its end. On errors nothing is watched. */
static int watches_begin(struct ferry_stonith *stonith, int output)
{
	struct ferry_loop *loop = stonith->config.loop;
	int process = ferry_process_descriptor(stonith->pid);
	int r;

	if (process < 0)
		return process;
	stonith->watch.fd = output;
	stonith->process_watch.fd = process;
	r = fcntl(output, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (r == 0)
		r = loop->ops->watch_start(loop, &stonith->watch, FERRY_WATCH_READ);
	if (r == 0) {
		r = loop->ops->watch_start(loop, &stonith->process_watch, FERRY_WATCH_READ);
		if (r < 0)
			loop->ops->watch_stop(loop, &stonith->watch);
	}
	if (r == 0)
		return 0;
	close(process);
	stonith->watch.fd = stonith->process_watch.fd = -1;
	return r;
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
	r = watches_begin(stonith, ends[0]);
	if (r == 0) {
		ferry_timer_start_in(loop, &stonith->deadline_timer, stonith->config.deadline_ns);
		return 0;
	}
	ferry_process_kill(stonith->pid);
	stonith->pid = 0;
	close(ends[0]);
	return r;
}

static void stonith_look(struct ferry_power *power)
{
	struct ferry_stonith *stonith = FERRY_CONTAINER_OF(power, struct ferry_stonith, power);

	FERRY_ASSERT_ON_LOOP(stonith->config.loop);
	ferry_assert(!stonith->is_asked);
	stonith->is_asked = true;
	stonith->what = stonith->pid == 0 ? "cannot be run" : "the last one has not ended";
	stonith->error = stonith->pid == 0 ? process_begin(stonith) : -EBUSY;
	if (stonith->error < 0)
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
	stonith->process_watch = (struct ferry_watch){.run = on_process, .fd = -1};
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
	ferry_timer_stop(stonith->config.loop, &stonith->deadline_timer);
	watch_end(stonith, &stonith->watch);
	watch_end(stonith, &stonith->process_watch);
	if (stonith->pid != 0)
		ferry_process_kill(stonith->pid);
	free(stonith);
}
