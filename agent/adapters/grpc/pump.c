#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "agent/adapters/common/thread.h"
#include "agent/adapters/grpc/internal.h"

/*
 * gRPC's completion queue can only be waited for by a thread that blocks in it. This one does
 * nothing else: it passes {tag, ok} on by a pipe, whose writes of this size are whole.
 */
struct pump_event {
	struct ferry_grpc_op *op; /* NULL: the queue is shut down; the last one. */
	uintptr_t ok;
};
_Static_assert(sizeof(struct pump_event) <= PIPE_BUF, "a write to the pipe is whole");

enum { EVENTS_PER_ROUND = 64, DRAIN_MS = 100 };

static void *pump_run(void *context)
{
	struct ferry_grpc_server *server = context;
	struct pump_event event;
	ssize_t length;

	do {
		grpc_event next = grpc_completion_queue_next(
			server->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

		event = (struct pump_event){0};
		if (next.type == GRPC_OP_COMPLETE)
			event = (struct pump_event){next.tag, next.success != 0};
		do {
			length = write(server->pipe_fds[1], &event, sizeof(event));
		} while (length < 0 && errno == EINTR);
		ferry_assert(length == (ssize_t)sizeof(event));
	} while (event.op);
	return NULL;
}

static void pump_dispatch(struct ferry_grpc_server *server)
{
	struct pump_event events[EVENTS_PER_ROUND];
	ssize_t length;

	length = read(server->pipe_fds[0], events, sizeof(events));
	if (length < 0)
		return; /* EAGAIN */
	ferry_assert((size_t)length % sizeof(events[0]) == 0);
	for (size_t i = 0; i < (size_t)length / sizeof(events[0]); i++) {
		if (events[i].op)
			events[i].op->run(events[i].op, events[i].ok != 0);
		else
			server->is_stopped = true;
	}
}

static void on_pipe(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_grpc_server *server =
		FERRY_CONTAINER_OF(watch, struct ferry_grpc_server, pipe_watch);

	(void)ready;
	pump_dispatch(server);
	if (!server->is_stopped)
		return;
	server->config.loop->ops->watch_stop(server->config.loop, watch);
	server->config.loop->ops->timer_stop(server->config.loop, &server->grace_timer);
	if (server->config.on_stopped)
		server->config.on_stopped(server->config.context);
}

/* Without the loop: to the last event, when the server is closed before it has stopped. */
void ferry_grpc_pump_drain(struct ferry_grpc_server *server)
{
	struct pollfd poll_fd = {.fd = server->pipe_fds[0], .events = POLLIN};

	ferry_assert(server->is_stopping);
	while (!server->is_stopped) {
		(void)poll(&poll_fd, 1, DRAIN_MS); /* Ignoring: the read tells. */
		pump_dispatch(server);
	}
}

int ferry_grpc_pump_start(struct ferry_grpc_server *server)
{
	int r;

	ferry_assert(!server->is_pumping);
	if (pipe2(server->pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(server->pipe_fds[0], F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	server->pipe_watch.run = on_pipe;
	server->pipe_watch.fd = server->pipe_fds[0];
	r = server->config.loop->ops->watch_start(server->config.loop, &server->pipe_watch,
						  FERRY_WATCH_READ);
	if (r < 0)
		return r;
	r = ferry_thread_start(&server->pump, 0, pump_run, server);
	if (r < 0)
		return r;
	server->is_pumping = true;
	return 0;
}
