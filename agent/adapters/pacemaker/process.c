#include "agent/adapters/pacemaker/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLED_MS_MAX = 1000 };

/*
 * posix_spawn(3), not fork: with gRPC's threads in this process nothing but exec may follow a
 * fork, and locked memory must not be copied. This thread waits for the exec, and no other does.
 */
int ferry_process_start(const char *program, char *const arguments[], int output, pid_t *ret)
{
	static char path_environment[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	static char locale_environment[] = "LC_ALL=C";
	static char zone_environment[] = "TZ=UTC";
	char *const environment[] = {path_environment, locale_environment, zone_environment, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_init(&attributes);
	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_init(&actions);
	if (r != 0) {
		(void)posix_spawnattr_destroy(&attributes);
		return -r;
	}
	/* Our blocked signals and our descriptors are not for it. */
	r = posix_spawnattr_setsigmask(&attributes, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(&attributes, &all);
	if (r == 0)
		r = posix_spawnattr_setflags(&attributes,
					     POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	for (int fd = 0; r == 0 && fd < 3; fd++)
		r = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	if (r == 0 && output >= 0)
		r = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	if (r == 0)
		r = posix_spawn(ret, program, &actions, &attributes, arguments, environment);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attributes);
	return -r;
}

int ferry_process_descriptor(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* It sets FD_CLOEXEC. */

	return fd < 0 ? -errno : fd;
}

void ferry_process_kill(pid_t pid)
{
	struct pollfd ended = {.fd = ferry_process_descriptor(pid), .events = POLLIN};

	ferry_assert(pid > 0);
	(void)kill(pid, SIGKILL);
	if (ended.fd >= 0) {
		(void)poll(&ended, 1, KILLED_MS_MAX);
		close(ended.fd);
	}
	/* Where there is no descriptor to be had: as long, in steps. */
	for (int i = 0; waitpid(pid, NULL, WNOHANG) == 0 && ended.fd < 0 && i < KILLED_MS_MAX; i++)
		(void)poll(NULL, 0, 1);
}
