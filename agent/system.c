#include "agent/system.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* Linux 5.6 */
#endif

void ferry_system_prepare(struct ferry_system *ret)
{
	ferry_assert(ret);
	*ret = (struct ferry_system){0};
	(void)signal(SIGPIPE, SIG_IGN); /* A peer or client that went away is an errno. */
	ret->is_memory_locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
	if (!ret->is_memory_locked)
		(void)snprintf(ret->memory_note, sizeof(ret->memory_note),
			       "memory is not locked (%s): raise LimitMEMLOCK, or grant "
			       "CAP_IPC_LOCK",
			       strerror(errno));
	ret->is_io_flusher = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
	if (!ret->is_io_flusher)
		(void)snprintf(ret->flusher_note, sizeof(ret->flusher_note),
			       "the kernel was not told that this is on the I/O path (%s): grant "
			       "CAP_SYS_RESOURCE",
			       strerror(errno));
}
