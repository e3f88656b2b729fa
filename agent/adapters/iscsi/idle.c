/*
 * An idle session asks its target from time to time whether it is there (NOP-Out, RFC 7143, 11.18):
 * else a path that was cut would be noticed with the next I/O only, which then pays for it, and a
 * standby would pass for one that could take over.
 *
 * With I/O in flight nothing is asked: each attempt has a deadline of the router's.
 */
#include "agent/adapters/iscsi/private.h"

#define GRACE_NS (20 * FERRY_NS_PER_MS)

static bool is_idle(const struct ferry_iscsi *iscsi)
{
	return ferry_list_is_empty(&iscsi->calls_out) && !iscsi->fencing.current;
}

static void arm(struct ferry_iscsi *iscsi, uint64_t delay_ns)
{
	ferry_timer_start_in(iscsi->config.loop, &iscsi->idle_timer, delay_ns);
}

/* It has been heard, which heard_ns says; or the session is over. */
static void answered(struct ferry_iscsi_call *call)
{
	call->iscsi->is_overdue = false;
}

static void ask(struct ferry_iscsi *iscsi)
{
	ferry_iscsi_call_prepare(iscsi, &iscsi->idle_call, answered);
	/* A refusal marks the session as lost: settle() drops it. */
	(void)ferry_iscsi_call_started(
		&iscsi->idle_call, iscsi_nop_out_async(iscsi->context, ferry_iscsi_call_answered,
						       NULL, 0, &iscsi->idle_call));
}

void ferry_iscsi_idle_begin(struct ferry_iscsi *iscsi)
{
	ferry_assert(iscsi->state == FERRY_ISCSI_UP && !iscsi->idle_call.is_out);
	iscsi->is_overdue = false;
	iscsi->heard_ns = ferry_loop_now_ns(iscsi->config.loop);
	if (iscsi->config.idle_timeout_ns > 0)
		arm(iscsi, iscsi->config.idle_timeout_ns);
}

void ferry_iscsi_idle_timer_run(struct ferry_timer *timer)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(timer, struct ferry_iscsi, idle_timer);
	uint64_t timeout_ns = iscsi->config.idle_timeout_ns;
	uint64_t silent_ns = ferry_loop_now_ns(iscsi->config.loop) - iscsi->heard_ns;

	ferry_assert(iscsi->state == FERRY_ISCSI_UP && timeout_ns > 0);
	if (silent_ns < timeout_ns) { /* Busy, or answered. */
		iscsi->is_overdue = false;
		arm(iscsi, timeout_ns - silent_ns);
	} else if (!iscsi->idle_call.is_out) {
		if (is_idle(iscsi))
			ask(iscsi);
		arm(iscsi, timeout_ns);
	} else if (!iscsi->is_overdue) {
		/* This thread may have stood still, and the answer be in the socket. */
		iscsi->is_overdue = true;
		arm(iscsi, GRACE_NS);
	} else {
		ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH,
					 "the session is idle and does not answer a NOP-Out");
	}
	ferry_iscsi_settle(iscsi);
}
