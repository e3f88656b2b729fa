#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/sim/sim_cluster.h"
int main(int argc, char **argv)
{
	static struct sim_cluster c;
	sim_cluster_init(&c, argc > 1 ? strtoull(argv[1], 0, 0) : 1, 3);
	c.sim.is_tracing = argc > 2;
	sim_cluster_start_all(&c);
	sim_cluster_run(&c, 2 * FERRY_NS_PER_S);
	sim_cluster_acquire(&c, 1);
	sim_cluster_run(&c, 2 * FERRY_NS_PER_S);
	printf("steps %" PRIu64 " hash %016" PRIx64 " reads %" PRIu64 " writes %" PRIu64 " viol %" PRIu64 " %s\n", c.sim.steps, c.sim.trace_hash,
	       c.workload.ended[1], c.workload.ended[2], c.sim.violations, c.sim.first_violation);
	sim_cluster_done(&c);
}
