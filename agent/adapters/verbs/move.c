#include "agent/adapters/verbs/room.h"

static void wr_chain(struct ibv_send_wr *wrs, uint32_t count)
{
	for (uint32_t i = 0; i + 1 < count; i++)
		wrs[i].next = &wrs[i + 1];
	if (count > 0)
		wrs[count - 1].next = NULL;
}

uint32_t verbs_move(const struct verbs_link *link, enum ibv_wr_opcode opcode,
		    const struct ferry_segments *segments, const struct ferry_rdma_piece *pieces,
		    uint32_t pieces_count, struct ibv_send_wr *wrs, struct ibv_sge *sges)
{
	uint32_t count = 0, at = 0;
	uint64_t done_bytes = 0; /* Of pieces[at]. */

	ferry_assert(segments->count > 0);
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];
		uint8_t *data = segment->chunk->data + segment->offset_bytes;
		uint32_t left_bytes = segment->length_bytes;

		while (left_bytes > 0) {
			uint32_t length_bytes;

			if (at == pieces_count)
				return 0;
			length_bytes = (uint32_t)ferry_min_u64(left_bytes, pieces[at].length_bytes -
										   done_bytes);
			ferry_assert(count < VERBS_MOVES_MAX && length_bytes > 0);
			sges[count] = (struct ibv_sge){
				.addr = (uintptr_t)data,
				.length = length_bytes,
				.lkey = verbs_mr_of(link->verbs, segment)->lkey,
			};
			wrs[count] = (struct ibv_send_wr){
				.sg_list = &sges[count],
				.num_sge = 1,
				.opcode = opcode,
				.wr.rdma = {.remote_addr = pieces[at].address + done_bytes,
					    .rkey = pieces[at].key},
			};
			count++;
			data += length_bytes;
			left_bytes -= length_bytes;
			done_bytes += length_bytes;
			if (done_bytes == pieces[at].length_bytes) {
				done_bytes = 0;
				at++;
			}
		}
	}
	wr_chain(wrs, count);
	return count;
}

uint32_t verbs_windows_open(struct verbs_link *link, struct verbs_out *out,
			    const struct ferry_segments *segments, struct ibv_send_wr *wrs,
			    struct ferry_rdma_piece *ret)
{
	unsigned int access =
		out->kind == FERRY_RDMA_ROOM ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ;

	ferry_assert(link->windows_free_count >= segments->count);
	ferry_assert(out->windows_count == 0);
	for (uint32_t i = 0; i < segments->count; i++) {
		const struct ferry_segment *segment = &segments->v[i];
		uint16_t place = link->windows_free[--link->windows_free_count];
		struct verbs_window *window = &link->windows[place];
		uint64_t address = (uintptr_t)(segment->chunk->data + segment->offset_bytes);

		ferry_assert(!window->is_bound);
		ferry_assert(window->stuck.count == 0);
		window->is_bound = true;
		window->memory = *segment;
		/* A new key each time: whoever still holds an older one holds nothing. */
		window->key = ibv_inc_rkey(window->mw->rkey);
		out->windows[out->windows_count++] = place;
		ret[i] = (struct ferry_rdma_piece){
			.address = address,
			.key = window->key,
			.length_bytes = segment->length_bytes,
		};
		wrs[i] = (struct ibv_send_wr){
			.opcode = IBV_WR_BIND_MW,
			.bind_mw = {.mw = window->mw,
				    .rkey = window->key,
				    .bind_info = {.mr = verbs_mr_of(link->verbs, segment),
						  .addr = address,
						  .length = segment->length_bytes,
						  .mw_access_flags = access}},
		};
	}
	link->counters.windows_opened += segments->count;
	wr_chain(wrs, segments->count);
	return segments->count;
}

void verbs_windows_opened(struct verbs_link *link, const struct verbs_out *out)
{
	for (uint32_t i = 0; i < out->windows_count; i++) {
		struct verbs_window *window = &link->windows[out->windows[i]];

		window->mw->rkey = window->key;
	}
}

uint32_t verbs_windows_close(const struct verbs_link *link, const struct verbs_out *out,
			     struct ibv_send_wr *wrs)
{
	for (uint32_t i = 0; i < out->windows_count; i++) {
		const struct verbs_window *window = &link->windows[out->windows[i]];

		ferry_assert(window->is_bound);
		wrs[i] = (struct ibv_send_wr){
			.opcode = IBV_WR_LOCAL_INV,
			.invalidate_rkey = window->key,
		};
	}
	wr_chain(wrs, out->windows_count);
	return out->windows_count;
}
