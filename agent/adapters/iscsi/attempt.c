#include "agent/adapters/iscsi/private.h"

static uint32_t block_bytes(const struct ferry_iscsi *iscsi)
{
	return iscsi->identity.block_bytes;
}

/* The longest part of one command by this method, in blocks. */
static uint32_t part_blocks_max(const struct ferry_iscsi *iscsi, enum ferry_iscsi_method method)
{
	uint64_t told = 0;
	uint64_t own = FERRY_IO_RANGE_BYTES_MAX / block_bytes(iscsi);

	switch (method) {
	case FERRY_ISCSI_METHOD_READ:
	case FERRY_ISCSI_METHOD_WRITE:
	case FERRY_ISCSI_METHOD_ZERO_WRITE:
		told = iscsi->lun.transfer_blocks_max;
		own = FERRY_IO_BYTES_MAX / block_bytes(iscsi);
		break;
	case FERRY_ISCSI_METHOD_UNMAP:
		told = iscsi->lun.unmap_blocks_max;
		break;
	case FERRY_ISCSI_METHOD_UNMAP_SAME:
	case FERRY_ISCSI_METHOD_ZERO_SAME:
		told = iscsi->lun.same_blocks_max;
		break;
	case FERRY_ISCSI_METHOD_SYNC:
		break;
	}
	return (uint32_t)(told > 0 ? ferry_min_u64(told, own) : own);
}

static enum ferry_iscsi_method choose_method(const struct ferry_iscsi *iscsi, enum ferry_op op)
{
	switch (op) {
	case FERRY_OP_READ:
		return FERRY_ISCSI_METHOD_READ;
	case FERRY_OP_WRITE:
		return FERRY_ISCSI_METHOD_WRITE;
	case FERRY_OP_FLUSH:
		return FERRY_ISCSI_METHOD_SYNC;
	case FERRY_OP_DISCARD:
		return iscsi->lun.has_unmap ? FERRY_ISCSI_METHOD_UNMAP
					    : FERRY_ISCSI_METHOD_UNMAP_SAME;
	case FERRY_OP_WRITE_ZEROES:
		return iscsi->lacks_same ? FERRY_ISCSI_METHOD_ZERO_WRITE
					 : FERRY_ISCSI_METHOD_ZERO_SAME;
	}
	ferry_assert(false);
	return 0;
}

/* Point the slot's vector at @length_bytes of the attempt's segments from @offset_bytes on. */
static int map_segments(struct ferry_iscsi_slot *slot, uint32_t offset_bytes, uint32_t length_bytes)
{
	const struct ferry_segments *segments = &slot->attempt->segments;
	int count = 0;

	ferry_assert(offset_bytes + length_bytes <= segments->length_bytes);
	for (uint32_t i = 0; i < segments->count && length_bytes > 0; i++) {
		const struct ferry_segment *segment = &segments->v[i];
		uint32_t take;

		if (offset_bytes >= segment->length_bytes) {
			offset_bytes -= segment->length_bytes;
			continue;
		}
		take = (uint32_t)ferry_min_u64(segment->length_bytes - offset_bytes, length_bytes);
		slot->iov[count++] = (struct scsi_iovec){
			.iov_base = segment->chunk->data + segment->offset_bytes + offset_bytes,
			.iov_len = take,
		};
		offset_bytes = 0;
		length_bytes -= take;
	}
	ferry_assert(length_bytes == 0);
	ferry_assert(count > 0);
	return count;
}

/* The same zeroes, again and again. */
static int map_zeroes(struct ferry_iscsi_slot *slot, uint32_t length_bytes)
{
	int count = 0;

	ferry_assert(length_bytes > 0);
	ferry_assert(length_bytes <= FERRY_SEGMENTS_MAX * FERRY_ISCSI_ZEROES_BYTES);
	for (; length_bytes > 0; count++) {
		uint32_t take = (uint32_t)ferry_min_u64(length_bytes, FERRY_ISCSI_ZEROES_BYTES);

		slot->iov[count] =
			(struct scsi_iovec){.iov_base = slot->call.iscsi->zeroes, .iov_len = take};
		length_bytes -= take;
	}
	return count;
}

/*
 * WRITE SAME has no FUA, and not every lun knows it in WRITE. And where there is a cache it is not
 * to be trusted: LIO on a file syncs for it, and says GOOD whatever came of that, of others' data
 * too (docs/decisions/0015).
 */
static bool needs_sync(const struct ferry_iscsi *iscsi, const struct ferry_iscsi_slot *slot)
{
	return (slot->attempt->flags & FERRY_IO_FUA) &&
	       (iscsi->lun.has_write_cache || !iscsi->lun.has_fua ||
		slot->method == FERRY_ISCSI_METHOD_ZERO_SAME);
}

static struct scsi_task *make_write(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot,
				    uint64_t lba, uint32_t length_bytes, int iov_count)
{
	int fua = (slot->attempt->flags & FERRY_IO_FUA) && !slot->needs_sync;

	slot->call.sends_data = true;
	return iscsi_write16_iov_task(iscsi->context, iscsi->config.lun, lba, NULL, length_bytes,
				      (int)block_bytes(iscsi), 0, 0, fua, 0, 0,
				      ferry_iscsi_call_answered, &slot->call, slot->iov, iov_count);
}

static struct scsi_task *make_same(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot,
				   uint64_t lba, bool unmaps)
{
	slot->call.sends_data = true;
	/* Not the one with a vector: given no plain buffer, it sends no data at all (1.19). */
	return iscsi_writesame16_task(iscsi->context, iscsi->config.lun, lba, iscsi->zeroes,
				      block_bytes(iscsi), slot->part_blocks, 0, unmaps, 0, 0,
				      ferry_iscsi_call_answered, &slot->call);
}

static struct scsi_task *make_task(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot)
{
	struct iscsi_context *context = iscsi->context;
	struct ferry_attempt *attempt = slot->attempt;
	int lun = iscsi->config.lun;
	uint64_t lba = attempt->lba.v + slot->done_blocks;
	uint32_t length_bytes = slot->part_blocks * block_bytes(iscsi);
	struct unmap_list range = {.lba = lba, .num = slot->part_blocks};

	switch (slot->method) {
	case FERRY_ISCSI_METHOD_READ:
		return iscsi_read16_iov_task(
			context, lun, lba, length_bytes, (int)block_bytes(iscsi), 0, 0, 0, 0, 0,
			ferry_iscsi_call_answered, &slot->call, slot->iov,
			map_segments(slot, slot->done_blocks * block_bytes(iscsi), length_bytes));
	case FERRY_ISCSI_METHOD_WRITE:
		return make_write(
			iscsi, slot, lba, length_bytes,
			map_segments(slot, slot->done_blocks * block_bytes(iscsi), length_bytes));
	case FERRY_ISCSI_METHOD_ZERO_WRITE:
		return make_write(iscsi, slot, lba, length_bytes, map_zeroes(slot, length_bytes));
	case FERRY_ISCSI_METHOD_ZERO_SAME:
		return make_same(iscsi, slot, lba,
				 !(attempt->flags & FERRY_IO_NO_UNMAP) &&
					 iscsi->lun.has_unmap_by_same &&
					 iscsi->lun.unmapped_reads_zeroes);
	case FERRY_ISCSI_METHOD_UNMAP_SAME:
		return make_same(iscsi, slot, lba, true);
	case FERRY_ISCSI_METHOD_UNMAP:
		slot->call.sends_data = true;
		return iscsi_unmap_task(context, lun, 0, 0, &range, 1, ferry_iscsi_call_answered,
					&slot->call);
	case FERRY_ISCSI_METHOD_SYNC: /* The whole lun: 0 blocks from 0. */
		return iscsi_synchronizecache16_task(context, lun, 0, 0, 0, 0,
						     ferry_iscsi_call_answered, &slot->call);
	}
	ferry_assert(false);
	return NULL;
}

static void attempt_answered(struct ferry_iscsi_call *call);

/* Hand the next part to the library. -EIO: it refused, and nothing of this part has left. */
static int issue(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot)
{
	uint32_t left_blocks = slot->attempt->length_blocks - slot->done_blocks;
	int r;

	ferry_assert(slot->attempt && !slot->call.is_out);
	ferry_assert(slot->method == FERRY_ISCSI_METHOD_SYNC || left_blocks > 0);
	slot->part_blocks =
		(uint32_t)ferry_min_u64(left_blocks, part_blocks_max(iscsi, slot->method));
	ferry_iscsi_call_prepare(iscsi, &slot->call, attempt_answered);
	slot->call.moves_blocks = slot->method == FERRY_ISCSI_METHOD_READ ||
				  slot->method == FERRY_ISCSI_METHOD_WRITE ||
				  slot->method == FERRY_ISCSI_METHOD_ZERO_WRITE;
	r = ferry_iscsi_call_tasked(&slot->call, make_task(iscsi, slot));
	if (r < 0)
		return r;
	slot->was_sent = true;
	return 0;
}

static void end(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot,
		enum ferry_outcome outcome, enum ferry_cause cause)
{
	struct ferry_attempt *attempt = TAKE_PTR(slot->attempt);

	ferry_assert(attempt && !slot->call.is_out);
	ferry_assert((outcome == FERRY_OUTCOME_DONE) == (cause == FERRY_CAUSE_NONE));
	ferry_assert(iscsi->slots_busy > 0);
	iscsi->slots_busy--;
	iscsi->counters.outcomes[outcome]++;
	if (cause == FERRY_CAUSE_UNSENT)
		iscsi->counters.unsent++;
	ferry_list_remove(&slot->link);
	ferry_list_append(&iscsi->slots_free, &slot->link);
	attempt->path_private = NULL;
	attempt->on_end(attempt, outcome, cause);
	/* The library has answered or is destroyed: nobody else holds the memory. */
	attempt->on_released(attempt);
}

/* A part is done: on with the next, or the whole is. */
static void advance(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot)
{
	if (slot->method == FERRY_ISCSI_METHOD_SYNC) {
		end(iscsi, slot, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
		return;
	}
	slot->done_blocks += slot->part_blocks;
	ferry_assert(slot->done_blocks <= slot->attempt->length_blocks);
	if (slot->done_blocks == slot->attempt->length_blocks) {
		if (!slot->needs_sync) {
			end(iscsi, slot, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
			return;
		}
		slot->method = FERRY_ISCSI_METHOD_SYNC;
	}
	ferry_list_prepend(&iscsi->waiting, &slot->link);
}

/* The target answered that it did not execute the part: whether it is tried again. */
static bool retry(struct ferry_iscsi *iscsi, struct ferry_iscsi_slot *slot,
		  enum ferry_iscsi_verdict verdict)
{
	if (verdict == FERRY_ISCSI_VERDICT_RETRY &&
	    slot->retries_attention < FERRY_ISCSI_RETRIES_ATTENTION_MAX) {
		slot->retries_attention++;
		iscsi->counters.retries_attention++;
		ferry_list_prepend(&iscsi->waiting, &slot->link);
		return true;
	}
	if (verdict == FERRY_ISCSI_VERDICT_RETRY_LATER &&
	    slot->retries_busy < FERRY_ISCSI_RETRIES_BUSY_MAX) {
		slot->retries_busy++;
		iscsi->counters.retries_busy++;
		ferry_list_append(&iscsi->resting, &slot->link);
		if (!ferry_timer_is_started(&iscsi->retry_timer))
			ferry_timer_start_in(iscsi->config.loop, &iscsi->retry_timer,
					     FERRY_ISCSI_BUSY_PAUSE_NS);
		return true;
	}
	return false;
}

static void attempt_answered(struct ferry_iscsi_call *call)
{
	struct ferry_iscsi_slot *slot = FERRY_CONTAINER_OF(call, struct ferry_iscsi_slot, call);
	struct ferry_iscsi *iscsi = call->iscsi;
	struct ferry_iscsi_conclusion conclusion =
		slot->method == FERRY_ISCSI_METHOD_SYNC ? ferry_iscsi_conclude_sync(&call->answer)
							: ferry_iscsi_conclude(&call->answer);

	ferry_assert(slot->attempt);
	if (ferry_iscsi_answer_is_unit_attention(&call->answer))
		ferry_iscsi_note_attention(iscsi, &call->answer);
	if (retry(iscsi, slot, conclusion.verdict))
		return;
	if (conclusion.outcome == FERRY_OUTCOME_DONE) {
		advance(iscsi, slot);
		return;
	}
	if (slot->method == FERRY_ISCSI_METHOD_ZERO_SAME &&
	    ferry_iscsi_answer_is_unsupported(&call->answer)) {
		iscsi->lacks_same = true;
		slot->method = FERRY_ISCSI_METHOD_ZERO_WRITE;
		slot->needs_sync = needs_sync(iscsi, slot) ||
				   ((slot->attempt->flags & FERRY_IO_FUA) && slot->done_blocks > 0);
		ferry_list_prepend(&iscsi->waiting, &slot->link);
		return;
	}
	end(iscsi, slot, conclusion.outcome, conclusion.cause);
}

static bool may_feed(struct ferry_iscsi *iscsi)
{
	return iscsi->path.is_up && iscsi->context && !iscsi->is_lost && !iscsi->holds_back &&
	       ferry_list_is_empty(&iscsi->calls_lingering) &&
	       iscsi_out_queue_length(iscsi->context) < FERRY_ISCSI_UNWRITTEN_MAX;
}

void ferry_iscsi_attempts_feed(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_slot *slot;
	struct ferry_list *link;

	while (may_feed(iscsi) && (link = ferry_list_pop(&iscsi->waiting))) {
		slot = ferry_list_entry(link, struct ferry_iscsi_slot, link);
		if (issue(iscsi, slot) < 0) /* The session is lost: it ends with the others. */
			ferry_list_prepend(&iscsi->waiting, &slot->link);
	}
}

/*
 * The path is down: end what waits in our own queue. What was never given to the library has not
 * left this node. What was, and waits for its next part or for another try, was answered.
 */
void ferry_iscsi_attempts_drop_unsent(struct ferry_iscsi *iscsi)
{
	struct ferry_list *link;

	ferry_assert(!iscsi->path.is_up);
	ferry_list_move_all(&iscsi->waiting, &iscsi->resting);
	while ((link = ferry_list_pop(&iscsi->waiting))) {
		struct ferry_iscsi_slot *slot =
			ferry_list_entry(link, struct ferry_iscsi_slot, link);

		end(iscsi, slot, FERRY_OUTCOME_FAILED,
		    slot->was_sent ? FERRY_CAUSE_PATH : FERRY_CAUSE_UNSENT);
	}
}

void ferry_iscsi_retry_timer_run(struct ferry_timer *timer)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(timer, struct ferry_iscsi, retry_timer);

	ferry_list_move_all(&iscsi->waiting, &iscsi->resting);
	ferry_iscsi_session_retry(iscsi);
	ferry_iscsi_settle(iscsi);
}

static int path_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(path, struct ferry_iscsi, path);
	struct ferry_iscsi_slot *slot;
	struct ferry_list *link;

	FERRY_ASSERT_ON_LOOP(iscsi->config.loop);
	ferry_assert(!ferry_op_has_data(attempt->op) ||
		     attempt->segments.length_bytes ==
			     (uint64_t)attempt->length_blocks * iscsi->identity.block_bytes);
	if (!path->is_up)
		return -ENOTCONN;
	if (attempt->op == FERRY_OP_DISCARD && !iscsi->identity.can_discard)
		return -EOPNOTSUPP;
	link = ferry_list_pop(&iscsi->slots_free);
	if (!link) {
		iscsi->wants_room = true;
		return -EAGAIN;
	}
	slot = ferry_list_entry(link, struct ferry_iscsi_slot, link);
	ferry_assert(!slot->attempt && !slot->call.is_out);
	slot->attempt = attempt;
	slot->method = choose_method(iscsi, attempt->op);
	slot->done_blocks = 0;
	slot->retries_busy = 0;
	slot->retries_attention = 0;
	slot->was_sent = false;
	slot->needs_sync = needs_sync(iscsi, slot);
	attempt->path_private = slot;
	iscsi->slots_busy++;
	iscsi->counters.attempts++;
	ferry_list_append(&iscsi->waiting, &slot->link);
	ferry_iscsi_settle_later(iscsi);
	return 0;
}

static void path_reset(struct ferry_path *path)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(path, struct ferry_iscsi, path);

	FERRY_ASSERT_ON_LOOP(iscsi->config.loop);
	if (!path->is_up)
		return; /* Nothing is in flight, and a login is under way. */
	iscsi->counters.resets++;
	ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_TIMEOUT, "given up: no answer in time");
	ferry_iscsi_settle_later(iscsi);
}

const struct ferry_path_ops FERRY_ISCSI_PATH_OPS = {
	.name = "iscsi",
	.submit = path_submit,
	.reset = path_reset,
};
