/*
 * history_fuzz - what crm_mon prints of nodes, fence devices and fencings, in memory of just its
 * size.
 */
#include <stdlib.h>

#include "agent/adapters/pacemaker/history.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	static const struct ferry_history_agents agents = {.names = {"fence_lab"}, .count = 1};
	static struct ferry_power_report report;
	char *text = malloc(length_bytes + 1); /* Never of no bytes. */
	int r;

	ferry_assert(text);
	memcpy(text + 1, data, length_bytes);
	r = ferry_history_parse(text + 1, length_bytes, &agents, &report);
	free(text);
	ferry_assert(r == 0 || r == -EBADMSG || r == -E2BIG || r == -EIO);
	ferry_assert(report.count <= FERRY_POWER_FENCINGS_MAX);
	if (r < 0)
		return 0;
	for (uint32_t i = 0; i < report.count; i++) {
		const struct ferry_power_fencing *fencing = &report.fencings[i];

		ferry_assert(fencing->node.v != 0);
		ferry_assert(fencing->result >= FERRY_POWER_PENDING &&
			     fencing->result <= FERRY_POWER_PROVES_NOT);
		ferry_assert(fencing->result != FERRY_POWER_PENDING || fencing->ended_s == 0);
	}
	return 0;
}
