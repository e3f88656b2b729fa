#include "agent/ports/config.h"

void ferry_config_defaults(struct ferry_config *ret)
{
	ferry_assert(ret);
	*ret = (struct ferry_config){
		.state_dir = "/var/lib/ferry",
		.run_dir = "/run/ferry",
		.key_file = "/etc/ferry/authkey",
		.listen = {.port = FERRY_CONFIG_PORT_DEFAULT},
		.transport = FERRY_CONFIG_TRANSPORT_AUTO,
		.log_level = FERRY_SEVERITY_INFO,
		.path_timeout_ns = 5 * FERRY_NS_PER_S,
		.hold_timeout_ns = 60 * FERRY_NS_PER_S,
		.quorum_timeout_ns = 30 * FERRY_NS_PER_S,
		.memory_bytes = 64 * FERRY_MIB,
		.cache_bytes = 32 * FERRY_MIB,
		.decision = FERRY_CONFIG_DECISION_COUNT,
		.decision_failures = 3,
		.decision_window_ns = 10 * FERRY_NS_PER_S,
		.is_published = true,
		.attribute = "ferry-path",
		.fuse_mountpoint = "/run/ferry/volumes",
	};
	ferry_assert(ret->memory_bytes >= FERRY_CONFIG_MEMORY_MIN_BYTES);
}
