#include "agent/adapters/iscsi/rig.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 40, READY_MS_MAX = 20 * 1000 };

bool rig_enter(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd;
	int r;

	if (unshare(CLONE_NEWNET) < 0)
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ferry_assert(fd >= 0);
	request.ifr_flags = IFF_UP;
	r = ioctl(fd, SIOCSIFFLAGS, &request);
	ferry_assert(r == 0);
	(void)close(fd);
	return true;
}

/* Start @words[0]; it dies with us. @is_quiet: its complaints are expected. */
static pid_t spawn(struct rig *rig, char *const words[], const char *preload, bool is_quiet)
{
	char socket_path[96];
	pid_t parent = getpid();
	pid_t pid = fork();

	ferry_assert(pid >= 0);
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (rig) {
		(void)snprintf(socket_path, sizeof(socket_path), "%s/ipc", rig->directory);
		(void)setenv("TGT_IPC_SOCKET", socket_path, 1);
		(void)setenv("FERRY_SLOW_DISK", rig->hold, 1);
	}
	if (preload)
		(void)setenv("LD_PRELOAD", preload, 1);
	if (is_quiet) {
		int fd = open("/dev/null", O_RDWR);

		(void)dup2(fd, STDOUT_FILENO);
		(void)dup2(fd, STDERR_FILENO);
	}
	execvp(words[0], words);
	_exit(127);
}

static int run(struct rig *rig, const char *line, bool is_quiet)
{
	char copy[512];
	char *words[WORDS_MAX + 1] = {NULL};
	char *rest = copy;
	int status;
	pid_t pid;
	size_t count = 0;

	(void)snprintf(copy, sizeof(copy), "%s", line);
	while (count < WORDS_MAX && (words[count] = strsep(&rest, " ")))
		if (words[count][0])
			count++;
	words[count] = NULL;
	pid = spawn(rig, words, NULL, is_quiet);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void rig_admin(struct rig *rig, const char *words)
{
	char line[400];
	int r;

	(void)snprintf(line, sizeof(line), "tgtadm --lld iscsi %s", words);
	r = run(rig, line, false);
	if (r != 0)
		(void)fprintf(stderr, "%s: exit code %d\n", line, r);
	ferry_assert(r == 0);
}

void rig_create(struct rig *rig)
{
	char path[96];
	int fd;
	int r;

	*rig = (struct rig){.directory = "/tmp/ferry-iscsi.XXXXXX"};
	ferry_assert(mkdtemp(rig->directory));
	(void)snprintf(rig->hold, sizeof(rig->hold), "%s/hold", rig->directory);
	(void)snprintf(path, sizeof(path), "%s/disk", rig->directory);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	ferry_assert(fd >= 0);
	r = ftruncate(fd, RIG_SIZE_BYTES);
	ferry_assert(r == 0);
	(void)close(fd);
}

void rig_start(struct rig *rig, const char *params)
{
	char *words[] = {"tgtd", "-f",	    "-C",
			 "0",	 "--iscsi", "portal=127.0.0.1:3260,portal=127.0.0.2:3260",
			 NULL};
	char line[300];
	int waited_ms = 0;

	ferry_assert(rig->pid == 0);
	rig->pid = spawn(rig, words, RIG_SLOW_DISK, true);
	while (run(rig, "tgtadm --op show --mode sys", true) != 0 && waited_ms < READY_MS_MAX) {
		(void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
		waited_ms += 20;
	}
	ferry_assert(waited_ms < READY_MS_MAX);
	rig_admin(rig, "--op new --mode target --tid 1 -T " RIG_TARGET);
	(void)snprintf(line, sizeof(line),
		       "--op new --mode logicalunit --tid 1 --lun 1 -b %s/disk --bstype rdwr",
		       rig->directory);
	rig_admin(rig, line);
	(void)snprintf(line, sizeof(line),
		       "--op update --mode logicalunit --tid 1 --lun 1 --params "
		       "thin_provisioning=1,vendor_id=FERRY%s%s",
		       params ? "," : "", params ? params : "");
	rig_admin(rig, line);
	rig_admin(rig, "--op bind --mode target --tid 1 -I ALL");
}

void rig_kill(struct rig *rig)
{
	if (rig->pid == 0)
		return;
	(void)kill(rig->pid, SIGKILL);
	(void)waitpid(rig->pid, NULL, 0);
	rig->pid = 0;
}

void rig_destroy(struct rig *rig)
{
	static const char *const NAMES[] = {"disk",  "hold",	   "ipc",
					    "ipc.0", "ipc.0.lock", "ipc.lock"};
	char path[128];

	rig_cut(0, NULL);
	rig_kill(rig);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(NAMES); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", rig->directory, NAMES[i]);
		(void)unlink(path);
	}
	if (rmdir(rig->directory) < 0)
		perror(rig->directory);
}

void rig_hold(struct rig *rig)
{
	int fd = open(rig->hold, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	ferry_assert(fd >= 0);
	(void)close(fd);
}

void rig_let_go(struct rig *rig)
{
	(void)unlink(rig->hold);
}

void rig_cut(unsigned int last_octet, const char *how)
{
	char line[200];

	if (!how) {
		(void)run(NULL, "nft delete table inet cut", true); /* There may be none. */
		return;
	}
	ferry_assert(run(NULL, "nft add table inet cut", false) == 0);
	ferry_assert(run(NULL, "nft add chain inet cut in { type filter hook input priority 0 ; }",
			 false) == 0);
	(void)snprintf(line, sizeof(line),
		       "nft add rule inet cut in ip daddr 127.0.0.%u tcp dport 3260 %s", last_octet,
		       how);
	ferry_assert(run(NULL, line, false) == 0);
}

uint8_t rig_peek(struct rig *rig, off_t offset)
{
	char path[96];
	uint8_t byte = 0;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/disk", rig->directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ferry_assert(fd >= 0);
	ferry_assert(pread(fd, &byte, 1, offset) == 1);
	(void)close(fd);
	return byte;
}
