#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/adapters/iscsi/private.h"

void ferry_iscsi_call_prepare(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call,
			      void (*run)(struct ferry_iscsi_call *call))
{
	ferry_assert(iscsi->context && !iscsi->is_destroying);
	ferry_assert(!call->is_out && !call->task);
	*call = (struct ferry_iscsi_call){.iscsi = iscsi, .run = run, .is_out = true};
	ferry_list_init(&call->link);
	ferry_list_append(&iscsi->calls_out, &call->link);
}

int ferry_iscsi_call_started(struct ferry_iscsi_call *call, int r)
{
	ferry_assert(call->is_out);
	ferry_assert(!call->task);
	if (r == 0)
		return 0;
	ferry_list_remove(&call->link);
	call->is_out = false;
	call->iscsi->is_lost = true; /* Out of memory, or no session any more. */
	return -EIO;
}

int ferry_iscsi_call_tasked(struct ferry_iscsi_call *call, struct scsi_task *task)
{
	int r;

	r = ferry_iscsi_call_started(call, task ? 0 : -1);
	if (r < 0)
		return r;
	call->task = task;
	return 0;
}

static void note_answer(struct ferry_iscsi_call *call, int status, const void *data)
{
	const struct scsi_task *task = call->task;

	call->answer = (struct ferry_iscsi_answer){.status = status};
	if (call->is_management && status == SCSI_STATUS_GOOD)
		call->response = data ? *(const uint32_t *)data : ISCSI_TMR_FUNC_REJECTED;
	if (!task)
		return;
	call->answer.is_short =
		call->moves_blocks && task->residual_status == SCSI_RESIDUAL_UNDERFLOW;
	if (status != SCSI_STATUS_CHECK_CONDITION)
		return;
	call->answer.error_type = task->sense.error_type;
	call->answer.key = (uint8_t)task->sense.key;
	call->answer.asc = (uint8_t)(task->sense.ascq >> 8);
	call->answer.ascq = (uint8_t)task->sense.ascq;
}

/* From inside the library: note what it says, and nothing else. */
void ferry_iscsi_call_answered(struct iscsi_context *context, int status, void *data,
			       void *private_data)
{
	struct ferry_iscsi_call *call = private_data;
	struct ferry_iscsi *iscsi = call->iscsi;

	if (iscsi->is_destroying || !call->is_out)
		return; /* session_drop() ends it; or connect's second callback. */
	/* Its next words will be that it can't reconnect. */
	if (!iscsi->said[0] && (status == SCSI_STATUS_ERROR || status == SCSI_STATUS_CANCELLED))
		(void)snprintf(iscsi->said, sizeof(iscsi->said), "%s", iscsi_get_error(context));
	note_answer(call, status, data);
	iscsi->heard_ns = ferry_loop_now_ns(iscsi->config.loop);
	call->is_out = false;
	ferry_list_remove(&call->link);
	if (status == SCSI_STATUS_CANCELLED)
		iscsi->is_lost = true;
	/*
	 * A write that the target refused early leaves the rest of its data queued in the library,
	 * which looks at the task and at our buffers once more when it sends that.
	 */
	if (call->sends_data && status != SCSI_STATUS_GOOD)
		ferry_list_append(&iscsi->calls_lingering, &call->link);
	else
		ferry_list_append(&iscsi->calls_done, &call->link);
}

static bool library_has_output(struct ferry_iscsi *iscsi)
{
	return iscsi_out_queue_length(iscsi->context) > 0 ||
	       (iscsi_which_events(iscsi->context) & POLLOUT);
}

static void release_lingering(struct ferry_iscsi *iscsi)
{
	if (ferry_list_is_empty(&iscsi->calls_lingering))
		return;
	if (iscsi->context && library_has_output(iscsi))
		return;
	ferry_list_move_all(&iscsi->calls_done, &iscsi->calls_lingering);
}

static void run_done(struct ferry_iscsi *iscsi)
{
	struct ferry_list *link;

	while ((link = ferry_list_pop(&iscsi->calls_done))) {
		struct ferry_iscsi_call *call =
			ferry_list_entry(link, struct ferry_iscsi_call, link);
		struct scsi_task *task = TAKE_PTR(call->task);

		ferry_assert(!call->is_out);
		if (task && task->datain.data && task->datain.size > 0) {
			call->data = task->datain.data;
			call->data_bytes = (size_t)task->datain.size;
		}
		call->run(call);
		if (task)
			scsi_free_scsi_task(task);
	}
}

/* Let the library write what it can now, rather than after one more turn of the loop. */
static void flush(struct ferry_iscsi *iscsi)
{
	if (!iscsi->context || iscsi->state < FERRY_ISCSI_PROBING || iscsi->is_lost)
		return;
	if (!(iscsi_which_events(iscsi->context) & POLLOUT))
		return;
	if (iscsi_service(iscsi->context, POLLOUT) < 0)
		iscsi->is_lost = true;
}

static void feed(struct ferry_iscsi *iscsi)
{
	ferry_iscsi_fence_feed(iscsi);
	for (uint32_t i = 0; i <= iscsi->config.depth; i++) {
		ferry_iscsi_attempts_feed(iscsi);
		flush(iscsi);
		if (ferry_list_is_empty(&iscsi->waiting) || !iscsi->context || iscsi->is_lost)
			break;
		if (iscsi->holds_back || iscsi_out_queue_length(iscsi->context) > 0)
			break;
	}
}

void ferry_iscsi_unwatch(struct ferry_iscsi *iscsi)
{
	if (!iscsi->is_watched)
		return;
	iscsi->config.loop->ops->watch_stop(iscsi->config.loop, &iscsi->watch);
	iscsi->is_watched = false;
}

/* The library's descriptor and wishes may have changed with every call of it. */
static void arm(struct ferry_iscsi *iscsi)
{
	struct ferry_loop *loop = iscsi->config.loop;
	uint32_t wanted = 0;
	int events;
	int r;

	if (!iscsi->context)
		return;
	events = iscsi_which_events(iscsi->context);
	if (events & POLLIN)
		wanted |= FERRY_WATCH_READ;
	if (events & POLLOUT)
		wanted |= FERRY_WATCH_WRITE;
	if (iscsi->is_watched && iscsi->watch.fd == iscsi_get_fd(iscsi->context)) {
		if (iscsi->watch.wanted != wanted)
			loop->ops->watch_set(loop, &iscsi->watch, wanted);
		return;
	}
	ferry_iscsi_unwatch(iscsi);
	iscsi->watch = (struct ferry_watch){.run = ferry_iscsi_watch_run,
					    .fd = iscsi_get_fd(iscsi->context)};
	/* The library does not: whatever this process starts must not keep the session open. */
	(void)fcntl(iscsi->watch.fd, F_SETFD, FD_CLOEXEC);
	r = loop->ops->watch_start(loop, &iscsi->watch, wanted);
	if (r < 0) {
		ferry_iscsi_say_error(iscsi, "cannot watch the session's socket: %s", strerror(-r));
		iscsi->is_lost = true;
		return;
	}
	iscsi->is_watched = true;
}

static void tell(struct ferry_iscsi *iscsi)
{
	if (iscsi->is_down_owed && iscsi->slots_busy == 0) {
		iscsi->is_down_owed = false;
		if (iscsi->path.on_state && !iscsi->is_closing)
			iscsi->path.on_state(&iscsi->path, false, iscsi->down_cause);
	}
	if (iscsi->wants_room && iscsi->path.is_up && !ferry_list_is_empty(&iscsi->slots_free)) {
		iscsi->wants_room = false;
		if (iscsi->path.on_room)
			iscsi->path.on_room(&iscsi->path);
	}
}

/* The last act: nothing of it is in anybody's hands. */
static bool finish_closing(struct ferry_iscsi *iscsi)
{
	struct ferry_loop *loop = iscsi->config.loop;
	void (*on_closed)(void *context) = iscsi->on_closed;
	void *context = iscsi->on_closed_context;

	if (!iscsi->is_closing || iscsi->context || iscsi->slots_busy > 0)
		return false;
	if (iscsi->fencing.current || !ferry_list_is_empty(&iscsi->calls_done))
		return false;
	ferry_assert(!iscsi->is_watched && ferry_list_is_empty(&iscsi->calls_out));
	ferry_timer_stop(loop, &iscsi->session_timer);
	ferry_timer_stop(loop, &iscsi->retry_timer);
	ferry_timer_stop(loop, &iscsi->idle_timer);
	ferry_timer_stop(loop, &iscsi->fencing.deadline);
	ferry_timer_stop(loop, &iscsi->fencing.pause);
	ferry_task_cancel(loop, &iscsi->work);
	explicit_bzero(iscsi->secrets, sizeof(iscsi->secrets));
	free(iscsi->zeroes);
	free(iscsi->slots);
	free(iscsi);
	if (on_closed)
		on_closed(context);
	return true;
}

void ferry_iscsi_settle(struct ferry_iscsi *iscsi)
{
	uint32_t rounds = 0;

	FERRY_ASSERT_ON_LOOP(iscsi->config.loop);
	ferry_assert(!iscsi->is_destroying);
	if (iscsi->is_settling)
		return;
	iscsi->is_settling = true;
	do {
		if (iscsi->is_lost ||
		    (iscsi->state == FERRY_ISCSI_UP && !iscsi_is_logged_in(iscsi->context)))
			ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH, NULL);
		release_lingering(iscsi);
		run_done(iscsi);
		if (!iscsi->path.is_up) {
			ferry_iscsi_attempts_drop_unsent(iscsi);
			ferry_iscsi_fence_drop(iscsi);
		}
		tell(iscsi);
		feed(iscsi);
		release_lingering(iscsi);
		arm(iscsi);
	} while ((iscsi->is_lost || !ferry_list_is_empty(&iscsi->calls_done)) &&
		 ++rounds < FERRY_ISCSI_ROUNDS_MAX);
	iscsi->is_settling = false;
	if (finish_closing(iscsi))
		return;
	if (rounds == FERRY_ISCSI_ROUNDS_MAX || iscsi->is_down_owed)
		ferry_iscsi_settle_later(iscsi);
}

void ferry_iscsi_settle_later(struct ferry_iscsi *iscsi)
{
	ferry_task_post(iscsi->config.loop, &iscsi->work);
}

void ferry_iscsi_watch_run(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(watch, struct ferry_iscsi, watch);
	int events = 0;

	ferry_assert(iscsi->context && iscsi->is_watched);
	ferry_assert(!iscsi->is_settling);
	if (ready & FERRY_WATCH_READ)
		events |= POLLIN;
	if (ready & FERRY_WATCH_WRITE)
		events |= POLLOUT;
	if (iscsi_service(iscsi->context, events) < 0)
		iscsi->is_lost = true;
	ferry_iscsi_settle(iscsi);
}
