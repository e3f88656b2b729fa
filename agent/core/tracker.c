#include "agent/core/tracker.h"

void ferry_tracker_init(struct ferry_tracker *tracker, uint32_t failures_needed, uint64_t window_ns)
{
	ferry_assert(tracker);
	ferry_assert(failures_needed >= 1 && failures_needed <= FERRY_TRACKER_FAILURES_MAX);
	*tracker = (struct ferry_tracker){.failures_needed = failures_needed,
					  .window_ns = window_ns,
					  .verdict = FERRY_VERDICT_NONE};
}

enum ferry_verdict ferry_tracker_observe(struct ferry_tracker *tracker, uint64_t now_ns,
					 bool local_succeeded, bool peer_succeeded)
{
	uint64_t oldest_ns;

	ferry_assert(tracker && tracker->failures_needed > 0);
	ferry_assert(tracker->next < tracker->failures_needed);
	if (local_succeeded) {
		tracker->count = 0;
		tracker->verdict = FERRY_VERDICT_NONE;
		return tracker->verdict;
	}
	if (!peer_succeeded)
		return tracker->verdict;

	tracker->times_ns[tracker->next] = now_ns;
	tracker->next = (tracker->next + 1) % tracker->failures_needed;
	if (tracker->count < tracker->failures_needed)
		tracker->count++;
	if (tracker->count < tracker->failures_needed)
		return tracker->verdict;
	/* Of the last n, the oldest is in the slot that the next one will take. */
	oldest_ns = tracker->times_ns[tracker->next];
	ferry_assert(oldest_ns <= now_ns);
	if (now_ns - oldest_ns <= tracker->window_ns)
		tracker->verdict = FERRY_VERDICT_LOCAL_PATH;
	return tracker->verdict;
}
