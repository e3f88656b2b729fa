#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <qb/qblog.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/qb/qb.h"

enum { LINE_BYTES_MAX = 480, CRASH_STACK_BYTES = 64 * 1024 };
_Static_assert(LINE_BYTES_MAX < QB_LOG_MAX_LEN, "the blackbox cuts longer lines");

/* libqb's log is one per process; so is this. */
static struct {
	pthread_mutex_t lock; /* Over every entry into libqb's logger; see qb.h. */
	bool is_open;
	_Atomic uint32_t self; /* A struct ferry_node's number. */
	_Atomic uint32_t level;
	char fatal_path[PATH_MAX];
	char state_dir[PATH_MAX];
	volatile sig_atomic_t is_crashing;
	uint8_t crash_stack[CRASH_STACK_BYTES];
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* What libqb takes for source files. */
static const char file_told[] = "ferry";
static const char file_quiet[] = "quiet"; /* For the blackbox only. */

static uint8_t priority_of(enum ferry_severity severity)
{
	switch (severity) {
	case FERRY_SEVERITY_DEBUG:
		return LOG_DEBUG;
	case FERRY_SEVERITY_INFO:
		return LOG_INFO;
	case FERRY_SEVERITY_NOTICE:
		return LOG_NOTICE;
	case FERRY_SEVERITY_WARNING:
		return LOG_WARNING;
	case FERRY_SEVERITY_ERROR:
		return LOG_ERR;
	}
	return LOG_ERR;
}

static void log_line(enum ferry_severity severity, const char *line)
{
	uint8_t priority = priority_of(severity);

	/*
	 * The level is applied by the "file", which the target's filter looks for: were the filter
	 * changed, libqb's thread would drop the lines that wait for it. The "line number" tells
	 * libqb's call sites apart.
	 */
	pthread_mutex_lock(&log_state.lock);
	if (log_state.is_open)
		qb_log_from_external_source("ferry",
					    severity >= log_state.level ? file_told : file_quiet,
					    "%s", priority, priority, 0, line);
	else
		fprintf(stderr, "%s\n", line);
	pthread_mutex_unlock(&log_state.lock);
}

void ferry_log(enum ferry_severity severity, const char *format, ...)
{
	char line[LINE_BYTES_MAX];
	va_list arguments;

	ferry_assert(severity >= FERRY_SEVERITY_DEBUG && severity <= FERRY_SEVERITY_ERROR);
	va_start(arguments, format);
	(void)vsnprintf(line, sizeof(line), format, arguments); /* Cutting is what is wanted. */
	va_end(arguments);
	log_line(severity, line);
}

void ferry_log_event(const struct ferry_event *event)
{
	char line[LINE_BYTES_MAX];
	char node[16];
	uint32_t number;

	ferry_assert(event);
	ferry_assert(event->kind != 0 && event->severity != 0);
	number = event->node.v ? event->node.v : log_state.self;
	(void)snprintf(node, sizeof(node), number ? "n%" PRIu32 : "-", number);
	(void)snprintf(line, sizeof(line), "%-4s %6" PRIu64 " %-12s %-13s %s→%s %s", node,
		       event->value, event->pool[0] ? event->pool : "-",
		       ferry_event_kind_name(event->kind), event->from[0] ? event->from : "-",
		       event->to[0] ? event->to : "-", event->text);
	log_line(event->severity, line);
}

static int dump_to(const char *path)
{
	ssize_t length;

	/* libqb writes over an older file without cutting it. */
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	length = qb_log_blackbox_write_to_file(path);
	if (length < 0)
		return (int)length;
	(void)chmod(path, 0600); /* Ignoring: it is executable for root, no more. */
	return 0;
}

int ferry_log_dump(const char *suffix)
{
	char path[PATH_MAX];
	int length;
	int r;

	ferry_assert(suffix && *suffix);
	if (!log_state.state_dir[0])
		return -ENOENT;
	length = snprintf(path, sizeof(path), "%s/blackbox.%s", log_state.state_dir, suffix);
	if (length < 0 || (size_t)length >= sizeof(path))
		return -ENAMETOOLONG;
	pthread_mutex_lock(&log_state.lock);
	r = log_state.is_open ? dump_to(path) : -ENOENT;
	pthread_mutex_unlock(&log_state.lock);
	return r;
}

/*
 * Not all of it is async-signal-safe by the letter; the process is lost anyway, the lines are
 * in shared memory, and no lock is taken.
 */
static void on_crash(int number)
{
	if (!log_state.is_crashing) {
		log_state.is_crashing = 1;
		(void)dump_to(log_state.fatal_path); /* Ignoring: there is nobody to tell. */
	}
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void crash_handlers_set(void)
{
	static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS};
	const stack_t stack = {.ss_sp = log_state.crash_stack, .ss_size = CRASH_STACK_BYTES};
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};

	if (!log_state.state_dir[0])
		return;
	(void)sigaltstack(&stack, NULL); /* Ignoring: then an overflown stack isn't dumped. */
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(numbers); i++)
		(void)sigaction(numbers[i], &action, NULL); /* Cannot fail for these. */
}

/*
 * libqb keeps the blackbox in files of /dev/shm and removes them at the end, but not in a crash.
 * It needs their memory only: without their names nothing can be left behind.
 */
static void blackbox_unname(const char *name)
{
	static const char *const parts[] = {"header", "data"};
	char path[PATH_MAX];

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(parts); i++) {
		(void)snprintf(path, sizeof(path), "/dev/shm/qb-%s-%d-blackbox-%s", name,
			       (int)getpid(), parts[i]);
		(void)unlink(path); /* Ignoring: a libqb that keeps them elsewhere may. */
	}
}

static int blackbox_open(uint32_t size_bytes, const char *name)
{
	int r;

	r = qb_log_filter_ctl(QB_LOG_BLACKBOX, QB_LOG_FILTER_ADD, QB_LOG_FILTER_FILE, "*",
			      LOG_DEBUG);
	if (r == 0)
		r = qb_log_ctl(QB_LOG_BLACKBOX, QB_LOG_CONF_SIZE, (int32_t)size_bytes);
	if (r == 0)
		r = qb_log_ctl(QB_LOG_BLACKBOX, QB_LOG_CONF_THREADED, QB_FALSE);
	if (r == 0)
		r = qb_log_ctl(QB_LOG_BLACKBOX, QB_LOG_CONF_ENABLED, QB_TRUE);
	if (r == 0)
		blackbox_unname(name);
	return r;
}

static int target_open(int32_t target)
{
	int r;

	(void)qb_log_ctl(QB_LOG_SYSLOG, QB_LOG_CONF_ENABLED, QB_FALSE); /* qb_log_init() did. */
	(void)qb_log_filter_ctl(QB_LOG_SYSLOG, QB_LOG_FILTER_CLEAR_ALL, QB_LOG_FILTER_FILE, "*",
				LOG_TRACE);
	r = qb_log_filter_ctl(target, QB_LOG_FILTER_ADD, QB_LOG_FILTER_FILE, file_told, LOG_DEBUG);
	/* syslog has its own time and name; stderr may be a terminal or journald's pipe. */
	if (target == QB_LOG_STDERR)
		qb_log_format_set(target, "%t [%7p] %b");
	else
		qb_log_format_set(target, "%b");
	if (r == 0)
		r = qb_log_ctl(target, QB_LOG_CONF_THREADED, QB_TRUE);
	if (r == 0)
		r = qb_log_thread_start();
	if (r == 0)
		r = qb_log_ctl(target, QB_LOG_CONF_ENABLED, QB_TRUE);
	return r;
}

int ferry_log_open(const struct ferry_log_config *config, struct ferry_error *reterr)
{
	int r;

	ferry_assert(config && config->name);
	ferry_assert(!log_state.is_open);
	if (config->state_dir) {
		int length = snprintf(log_state.fatal_path, sizeof(log_state.fatal_path),
				      "%s/blackbox.fatal", config->state_dir);

		if (length < 0 || (size_t)length >= sizeof(log_state.fatal_path))
			return ferry_error_set(reterr, -ENAMETOOLONG,
					       "the state directory's name is too long");
		(void)snprintf(log_state.state_dir, sizeof(log_state.state_dir), "%s",
			       config->state_dir);
	}
	log_state.self = config->self.v;
	log_state.level = config->level;
	qb_log_init(config->name, LOG_DAEMON, LOG_INFO);
	r = target_open(config->target == FERRY_LOG_SYSLOG ? (int32_t)QB_LOG_SYSLOG
							   : (int32_t)QB_LOG_STDERR);
	if (r == 0 && config->blackbox_bytes > 0)
		r = blackbox_open(config->blackbox_bytes, config->name);
	if (r < 0) {
		qb_log_fini();
		return ferry_error_set(reterr, r, "cannot open the log: %s", strerror(-r));
	}
	if (config->blackbox_bytes > 0)
		crash_handlers_set();
	log_state.is_open = true;
	return 0;
}

void ferry_log_set_level(enum ferry_severity level)
{
	ferry_assert(level >= FERRY_SEVERITY_DEBUG);
	ferry_assert(level <= FERRY_SEVERITY_ERROR);
	log_state.level = level;
}

void ferry_log_set_self(struct ferry_node self)
{
	log_state.self = self.v;
}

void ferry_log_close(void)
{
	static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS};
	bool was_open;

	pthread_mutex_lock(&log_state.lock);
	was_open = log_state.is_open;
	log_state.is_open = false;
	pthread_mutex_unlock(&log_state.lock);
	if (!was_open)
		return;
	for (size_t i = 0; log_state.state_dir[0] && i < FERRY_ARRAY_COUNT(numbers); i++)
		(void)signal(numbers[i], SIG_DFL);
	qb_log_fini();
	log_state.state_dir[0] = '\0';
}
