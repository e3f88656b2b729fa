#include <stdio.h>

#include "agent/adapters/inifile/internal.h"

#define IN(type, field) offsetof(struct type, field)
#define AGENT(field) IN(ferry_config, field)

/* Every key that there is. deploy/ferryd.conf.example describes them for people. */
static const struct key keys[] = {
	{SECTION_AGENT, "state_dir", parse_path, AGENT(state_dir), 0, FERRY_CONFIG_PATH_BYTES,
	 false},
	{SECTION_AGENT, "run_dir", parse_path, AGENT(run_dir), 0, FERRY_CONFIG_RUN_DIR_BYTES,
	 false},
	{SECTION_AGENT, "key_file", parse_path, AGENT(key_file), 0, FERRY_CONFIG_PATH_BYTES, false},
	{SECTION_AGENT, "listen", parse_endpoint, AGENT(listen), 0, 0, false},
	{SECTION_AGENT, "transport", parse_transport, AGENT(transport), 0, 0, false},
	{SECTION_AGENT, "log_level", parse_log_level, AGENT(log_level), 0, 0, false},
	{SECTION_AGENT, "path_timeout", parse_duration, AGENT(path_timeout_ns),
	 FERRY_CONFIG_PATH_TIMEOUT_MIN_NS, FERRY_CONFIG_PATH_TIMEOUT_MAX_NS, false},
	{SECTION_AGENT, "hold_timeout", parse_duration, AGENT(hold_timeout_ns),
	 FERRY_CONFIG_HOLD_TIMEOUT_MIN_NS, FERRY_CONFIG_HOLD_TIMEOUT_MAX_NS, false},
	{SECTION_AGENT, "quorum_timeout", parse_duration, AGENT(quorum_timeout_ns),
	 FERRY_CONFIG_HOLD_TIMEOUT_MIN_NS, FERRY_CONFIG_HOLD_TIMEOUT_MAX_NS, false},
	{SECTION_AGENT, "memory", parse_size, AGENT(memory_bytes), FERRY_CONFIG_MEMORY_MIN_BYTES,
	 FERRY_CONFIG_MEMORY_MAX_BYTES, false},

	{SECTION_CACHE, "size", parse_size, AGENT(cache_bytes), 0, FERRY_CONFIG_CACHE_MAX_BYTES,
	 false},

	{SECTION_DECISION, "mode", parse_decision, AGENT(decision), 0, 0, false},
	{SECTION_DECISION, "failures", parse_u32, AGENT(decision_failures), 1, 32, false},
	{SECTION_DECISION, "window", parse_duration, AGENT(decision_window_ns),
	 FERRY_CONFIG_WINDOW_MIN_NS, FERRY_CONFIG_WINDOW_MAX_NS, false},

	{SECTION_PACEMAKER, "publish", parse_bool, AGENT(is_published), 0, 0, false},
	{SECTION_PACEMAKER, "attribute", parse_word, AGENT(attribute), 0,
	 FERRY_CONFIG_ATTRIBUTE_BYTES, false},
	{SECTION_PACEMAKER, "power_agent", parse_power_agent, 0, 0, 0, true},

	{SECTION_NBD, "listen", parse_nbd_listen, 0, 0, 0, true},
	{SECTION_FUSE, "mount", parse_path, AGENT(fuse_mountpoint), 0, FERRY_CONFIG_PATH_BYTES,
	 false},

	{SECTION_PEER, "node_id", parse_u32, IN(ferry_config_peer, node), 1, UINT32_MAX, false},
	{SECTION_PEER, "address", parse_address, IN(ferry_config_peer, endpoint), 0, 0, false},
	{SECTION_PEER, "port", parse_port, IN(ferry_config_peer, endpoint.port), 1, UINT16_MAX,
	 false},

	{SECTION_LUN, "device", parse_lun_path, 0, FERRY_CONFIG_LUN_DEVICE, 0, false},
	{SECTION_LUN, "file", parse_lun_path, 0, FERRY_CONFIG_LUN_FILE, 0, false},
	{SECTION_LUN, "iscsi", parse_lun_url, 0, FERRY_CONFIG_LUN_ISCSI, 0, false},
	{SECTION_LUN, "initiator", parse_iqn, IN(ferry_config_lun, initiator), 0,
	 FERRY_CONFIG_IQN_BYTES, false},
	{SECTION_LUN, "chap_user", parse_word, IN(ferry_config_lun, chap_user), 0,
	 FERRY_CONFIG_CHAP_USER_BYTES, false},
	{SECTION_LUN, "chap_password_file", parse_path, IN(ferry_config_lun, chap_password_file), 0,
	 FERRY_CONFIG_PATH_BYTES, false},
	{SECTION_LUN, "laying", parse_laying, IN(ferry_config_lun, laying), 0, 0, false},
	{SECTION_LUN, "quiesce_time", parse_duration, IN(ferry_config_lun, quiesce_time_ns),
	 FERRY_CONFIG_QUIESCE_MIN_NS, FERRY_CONFIG_QUIESCE_MAX_NS, false},
	{SECTION_LUN, "wwid", parse_word, IN(ferry_config_lun, wwid), 0, FERRY_CONFIG_WWID_BYTES,
	 false},
	{SECTION_LUN, "block_size", parse_block_bytes, IN(ferry_config_lun, block_bytes), 0, 0,
	 false},
	{SECTION_LUN, "flush_scope", parse_flush_scope, IN(ferry_config_lun, flush_scope), 0, 0,
	 false},

	{SECTION_POOL, "luns", parse_reference, 0, 0, 0, false},
	{SECTION_POOL, "exclusive", parse_bool, IN(ferry_config_pool, is_exclusive), 0, 0, false},
	{SECTION_POOL, "scratch", parse_bool, IN(ferry_config_pool, is_scratch), 0, 0, false},

	{SECTION_VOLUME, "lun", parse_reference, 0, 0, 0, false},
	{SECTION_VOLUME, "pool", parse_reference, 0, 1, 0, false},
	{SECTION_VOLUME, "read_only", parse_bool, IN(ferry_config_volume, is_read_only), 0, 0,
	 false},
};
_Static_assert(FERRY_ARRAY_COUNT(keys) <= 64, "keys_seen has one bit for each");

const struct key *key_find(enum section section, const char *name, uint32_t *ret_index)
{
	ferry_assert(name && ret_index);
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(keys); i++)
		if (keys[i].section == section && strcmp(keys[i].name, name) == 0) {
			*ret_index = i;
			return &keys[i];
		}
	return NULL;
}

bool key_is_seen(const struct parser *parser, const char *name)
{
	uint32_t index = 0;
	const struct key *key = key_find(parser->section, name, &index);

	ferry_assert(key);
	return parser->keys_seen & UINT64_C(1) << index;
}

void key_names(enum section section, char *ret, size_t size_bytes)
{
	size_t length = 0;

	ferry_assert(size_bytes > 0);
	ret[0] = '\0';
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(keys); i++)
		if (keys[i].section == section && length < size_bytes) {
			int added = snprintf(ret + length, size_bytes - length, "%s%s",
					     length > 0 ? ", " : "", keys[i].name);

			length += added > 0 ? (size_t)added : 0;
		}
}
