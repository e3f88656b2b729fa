#include "agent/adapters/pacemaker/pacemaker.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/adapters/pacemaker/process.h"

enum { RETRY_DOUBLINGS_MAX = 5 };
#define DEADLINE_NS_DEFAULT (10 * FERRY_NS_PER_S)
static const char program_default[] = "/usr/sbin/attrd_updater";

struct attribute {
	struct ferry_pacemaker *owner;
	char name[FERRY_PACEMAKER_NAME_BYTES];
	char wanted[FERRY_PACEMAKER_NAME_BYTES];
	char sent[FERRY_PACEMAKER_NAME_BYTES]; /* By the process that runs. */
	bool is_private;
	bool is_outdated;	  /* The process that runs may have come too early. */
	bool is_published;	  /* What is wanted is what Pacemaker has, for all we know. */
	pid_t pid;		  /* 0: none runs. */
	struct ferry_watch watch; /* Of the process, by its pidfd. */
};

struct ferry_pacemaker {
	struct ferry_pacemaker_config config;
	char program[256];
	struct ferry_task publish_task;
	struct ferry_timer deadline_timer;
	struct ferry_timer retry_timer;
	uint32_t running;
	uint32_t failures; /* In a row. */
	bool is_failing;   /* As told by on_state(). */
	bool has_failed;   /* One of the present round. */
	char why[512];
	uint32_t attributes_count;
	struct attribute attributes[FERRY_PACEMAKER_ATTRIBUTES_MAX];
};

static void failed(struct ferry_pacemaker *pacemaker, const char *name, const char *what, int code)
{
	pacemaker->has_failed = true;
	(void)snprintf(pacemaker->why, sizeof(pacemaker->why), "%s %s: %s %d", pacemaker->program,
		       name, what, code);
}

/* The last of the round has ended: tell, and try again what failed or was changed meanwhile. */
static void round_end(struct ferry_pacemaker *pacemaker)
{
	struct ferry_loop *loop = pacemaker->config.loop;
	bool was_failing = pacemaker->is_failing;

	ferry_assert(pacemaker->running == 0);
	loop->ops->timer_stop(loop, &pacemaker->deadline_timer);
	pacemaker->is_failing = pacemaker->has_failed;
	if (pacemaker->has_failed) {
		uint64_t doublings = ferry_min_u64(pacemaker->failures++, RETRY_DOUBLINGS_MAX);

		ferry_timer_start_in(loop, &pacemaker->retry_timer,
				     pacemaker->config.retry_ns << doublings);
	} else {
		pacemaker->failures = 0;
		if (!ferry_pacemaker_is_settled(pacemaker))
			ferry_task_post(loop, &pacemaker->publish_task);
	}
	if (was_failing != pacemaker->is_failing && pacemaker->config.on_state)
		pacemaker->config.on_state(pacemaker->config.context,
					   pacemaker->is_failing ? -EIO : 0,
					   pacemaker->is_failing ? pacemaker->why : NULL);
}

static void on_process(struct ferry_watch *watch, uint32_t ready)
{
	struct attribute *attribute = FERRY_CONTAINER_OF(watch, struct attribute, watch);
	struct ferry_pacemaker *pacemaker = attribute->owner;
	struct ferry_loop *loop = pacemaker->config.loop;
	int status = 0;
	pid_t pid;

	(void)ready;
	pid = waitpid(attribute->pid, &status, WNOHANG);
	if (pid == 0)
		return; /* Not yet. */
	loop->ops->watch_stop(loop, watch);
	close(watch->fd);
	watch->fd = -1;
	attribute->pid = 0;
	pacemaker->running--;
	if (pid < 0)
		failed(pacemaker, attribute->name, "lost it, error", errno);
	else if (WIFSIGNALED(status))
		failed(pacemaker, attribute->name, "no answer in time or killed, signal",
		       WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		failed(pacemaker, attribute->name, "exit code", WEXITSTATUS(status));
	else
		attribute->is_published =
			!attribute->is_outdated && strcmp(attribute->sent, attribute->wanted) == 0;
	if (pacemaker->running == 0)
		round_end(pacemaker);
}

static void running_kill(struct ferry_pacemaker *pacemaker)
{
	for (uint32_t i = 0; i < pacemaker->attributes_count; i++) {
		/* Not reaped yet, so the number is still its own. */
		if (pacemaker->attributes[i].pid > 0)
			(void)kill(pacemaker->attributes[i].pid, SIGKILL);
	}
}

static void on_deadline(struct ferry_timer *timer)
{
	running_kill(FERRY_CONTAINER_OF(timer, struct ferry_pacemaker, deadline_timer));
}

static int attribute_send(struct ferry_pacemaker *pacemaker, struct attribute *attribute)
{
	struct ferry_loop *loop = pacemaker->config.loop;
	char name[FERRY_PACEMAKER_NAME_BYTES + 16];
	char value[FERRY_PACEMAKER_NAME_BYTES + 16];
	char private_option[] = "--private";
	char *arguments[] = {pacemaker->program, name, value,
			     attribute->is_private ? private_option : NULL, NULL};
	int fd, r;

	ferry_assert(attribute->pid == 0);
	(void)snprintf(name, sizeof(name), "--name=%s", attribute->name);
	(void)snprintf(value, sizeof(value), "--update=%s", attribute->wanted);
	memcpy(attribute->sent, attribute->wanted, sizeof(attribute->sent));
	attribute->is_outdated = false;
	r = ferry_process_start(pacemaker->program, arguments, /* output= */ -1, &attribute->pid);
	if (r < 0) {
		attribute->pid = 0;
		return r;
	}
	fd = ferry_process_descriptor(attribute->pid);
	r = fd < 0 ? fd : 0;
	if (r == 0) {
		attribute->watch.fd = fd;
		r = loop->ops->watch_start(loop, &attribute->watch, FERRY_WATCH_READ);
	}
	if (r == 0)
		return 0;
	/* It can't be watched, so it must not run. */
	ferry_process_kill(attribute->pid);
	attribute->pid = 0;
	if (fd >= 0)
		close(fd);
	attribute->watch.fd = -1;
	return r;
}

static void on_publish(struct ferry_task *task)
{
	struct ferry_pacemaker *pacemaker =
		FERRY_CONTAINER_OF(task, struct ferry_pacemaker, publish_task);
	struct ferry_loop *loop = pacemaker->config.loop;
	int r;

	/* One round at a time, so that an older value never overtakes a newer one. */
	if (pacemaker->running > 0 || ferry_pacemaker_is_settled(pacemaker))
		return;
	loop->ops->timer_stop(loop, &pacemaker->retry_timer);
	pacemaker->has_failed = false;
	for (uint32_t i = 0; i < pacemaker->attributes_count; i++) {
		struct attribute *attribute = &pacemaker->attributes[i];

		if (attribute->is_published)
			continue;
		r = attribute_send(pacemaker, attribute);
		if (r == 0)
			pacemaker->running++;
		else
			failed(pacemaker, attribute->name, "cannot run it, error", -r);
	}
	if (pacemaker->running > 0)
		ferry_timer_start_in(loop, &pacemaker->deadline_timer,
				     pacemaker->config.deadline_ns);
	else
		round_end(pacemaker);
}

static void on_retry(struct ferry_timer *timer)
{
	struct ferry_pacemaker *pacemaker =
		FERRY_CONTAINER_OF(timer, struct ferry_pacemaker, retry_timer);

	ferry_task_post(pacemaker->config.loop, &pacemaker->publish_task);
}

static bool name_is_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	size_t length = strlen(name);

	return length > 0 && length < FERRY_PACEMAKER_NAME_BYTES && strspn(name, allowed) == length;
}

static bool value_is_valid(const char *value)
{
	if (strlen(value) >= FERRY_PACEMAKER_NAME_BYTES)
		return false;
	for (; *value; value++) {
		if ((unsigned char)*value < 0x20 || *value == 0x7f)
			return false;
	}
	return true;
}

int ferry_pacemaker_set(struct ferry_pacemaker *pacemaker, const char *name, const char *value,
			bool is_private)
{
	struct attribute *attribute = NULL;

	ferry_assert(pacemaker && name && value);
	FERRY_ASSERT_ON_LOOP(pacemaker->config.loop);
	if (!name_is_valid(name) || !value_is_valid(value))
		return -EINVAL;
	for (uint32_t i = 0; i < pacemaker->attributes_count; i++) {
		if (strcmp(pacemaker->attributes[i].name, name) == 0)
			attribute = &pacemaker->attributes[i];
	}
	if (!attribute) {
		if (pacemaker->attributes_count == FERRY_PACEMAKER_ATTRIBUTES_MAX)
			return -ENOSPC;
		attribute = &pacemaker->attributes[pacemaker->attributes_count++];
		attribute->owner = pacemaker;
		attribute->is_private = is_private;
		attribute->watch = (struct ferry_watch){.run = on_process, .fd = -1};
		memcpy(attribute->name, name, strlen(name) + 1);
	} else if (strcmp(attribute->wanted, value) == 0) {
		return 0;
	}
	memcpy(attribute->wanted, value, strlen(value) + 1);
	attribute->is_published = false;
	ferry_task_post(pacemaker->config.loop, &pacemaker->publish_task);
	return 0;
}

void ferry_pacemaker_refresh(struct ferry_pacemaker *pacemaker)
{
	ferry_assert(pacemaker);
	FERRY_ASSERT_ON_LOOP(pacemaker->config.loop);
	for (uint32_t i = 0; i < pacemaker->attributes_count; i++) {
		struct attribute *attribute = &pacemaker->attributes[i];

		attribute->is_published = false;
		attribute->is_outdated = true;
	}
	ferry_task_post(pacemaker->config.loop, &pacemaker->publish_task);
}

/* How the child ended, if it did in time; else it is killed. */
static int child_wait(pid_t pid, uint64_t deadline_ns, int *ret_status)
{
	struct pollfd ended = {.fd = ferry_process_descriptor(pid), .events = POLLIN};
	int r = ended.fd < 0 ? ended.fd : 0;

	if (r == 0 && poll(&ended, 1, (int)(deadline_ns / FERRY_NS_PER_MS)) <= 0)
		r = -ETIMEDOUT;
	if (r < 0)
		ferry_process_kill(pid);
	else if (waitpid(pid, ret_status, 0) != pid)
		r = -ECHILD;
	if (ended.fd >= 0)
		close(ended.fd);
	return r;
}

int ferry_pacemaker_withdraw(const char *program, const char *name, uint64_t deadline_ns,
			     struct ferry_error *reterr)
{
	static char delete_option[] = "--delete";
	char path[256], option[FERRY_PACEMAKER_NAME_BYTES + 16];
	char *arguments[] = {path, option, delete_option, NULL};
	int status = 0;
	pid_t pid;
	int r;

	ferry_assert(name && deadline_ns / FERRY_NS_PER_MS <= INT_MAX);
	if (!name_is_valid(name))
		return ferry_error_set(reterr, -EINVAL, "%s is no attribute's name", name);
	(void)snprintf(path, sizeof(path), "%s", program ? program : program_default);
	(void)snprintf(option, sizeof(option), "--name=%s", name);
	r = ferry_process_start(path, arguments, /* output= */ -1, &pid);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot run %s: %s", path, strerror(-r));
	r = child_wait(pid, deadline_ns ? deadline_ns : DEADLINE_NS_DEFAULT, &status);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s %s: %s", path, name, strerror(-r));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return ferry_error_set(reterr, -EIO, "%s %s has failed", path, name);
	return 0;
}

bool ferry_pacemaker_is_settled(const struct ferry_pacemaker *pacemaker)
{
	ferry_assert(pacemaker);
	for (uint32_t i = 0; i < pacemaker->attributes_count; i++) {
		if (!pacemaker->attributes[i].is_published)
			return false;
	}
	return true;
}

int ferry_pacemaker_open(const struct ferry_pacemaker_config *config, struct ferry_pacemaker **ret,
			 struct ferry_error *reterr)
{
	struct ferry_pacemaker *pacemaker;
	int length;

	ferry_assert(config && config->loop && ret);
	FERRY_ASSERT_ON_LOOP(config->loop);
	pacemaker = calloc(1, sizeof(*pacemaker));
	if (!pacemaker)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the node's attributes");
	pacemaker->config = *config;
	if (!config->deadline_ns)
		pacemaker->config.deadline_ns = DEADLINE_NS_DEFAULT;
	if (!config->retry_ns)
		pacemaker->config.retry_ns = FERRY_NS_PER_S;
	length = snprintf(pacemaker->program, sizeof(pacemaker->program), "%s",
			  config->program ? config->program : program_default);
	if (length < 0 || (size_t)length >= sizeof(pacemaker->program) ||
	    access(pacemaker->program, X_OK) < 0) {
		(void)ferry_error_set(reterr, -ENOENT, "cannot run %s: is pacemaker installed?",
				      config->program ? config->program : program_default);
		free(pacemaker);
		return -ENOENT;
	}
	pacemaker->publish_task.run = on_publish;
	pacemaker->deadline_timer.run = on_deadline;
	pacemaker->retry_timer.run = on_retry;
	*ret = pacemaker;
	return 0;
}

void ferry_pacemaker_close(struct ferry_pacemaker *pacemaker)
{
	struct ferry_loop *loop;

	if (!pacemaker)
		return;
	loop = pacemaker->config.loop;
	loop->ops->timer_stop(loop, &pacemaker->deadline_timer);
	loop->ops->timer_stop(loop, &pacemaker->retry_timer);
	ferry_task_cancel(loop, &pacemaker->publish_task);
	running_kill(pacemaker);
	for (uint32_t i = 0; i < pacemaker->attributes_count; i++) {
		struct attribute *attribute = &pacemaker->attributes[i];

		if (attribute->pid == 0)
			continue;
		loop->ops->watch_stop(loop, &attribute->watch);
		ferry_process_kill(attribute->pid);
		close(attribute->watch.fd);
	}
	free(pacemaker);
}
