/*
 * uevent_stand - the adapter by hand, for tests/vm:
 *
 *     uevent_stand DEVICE
 *
 * Says "listening", and from then on "reset" whenever the kernel says that a disk beneath the
 * device reported one, until it is killed. Exits 2 if the device has no SCSI disk beneath it.
 */
#include <stdio.h>

#include "agent/adapters/uevent/uevent.h"
#include "agent/adapters/uring/loop.h"

static void say(const char *what)
{
	(void)puts(what);
	(void)fflush(stdout); /* Read while it listens. */
}

static void reset(void *context)
{
	(void)context;
	say("reset");
}

int main(int argc, char **argv)
{
	struct ferry_uevent_config config = {.on_reset = reset};
	struct ferry_uring_loop *loop;
	struct ferry_uevent *uevent;
	struct ferry_error error;
	int r;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: uevent_stand DEVICE\n");
		return 2;
	}
	r = ferry_uring_loop_open(&loop, &error);
	if (r == 0) {
		config.loop = ferry_uring_loop_of(loop);
		config.path = argv[1];
		r = ferry_uevent_open(&config, &uevent, &error);
	}
	if (r < 0) {
		(void)fprintf(stderr, "%s\n", error.message);
		return 2;
	}
	say("listening");
	r = ferry_uring_loop_run(loop);
	ferry_uevent_close(uevent);
	(void)ferry_uring_loop_close(loop);
	return r < 0 ? 1 : 0;
}
