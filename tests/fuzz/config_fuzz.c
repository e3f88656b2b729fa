/*
 * config_fuzz.c - any bytes as ferryd.conf: refused with a line, or a config that keeps its word.
 *
 * Target: ferry_inifile_parse() and all behind it.
 */
#include "agent/adapters/inifile/inifile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct ferry_config *config)
{
	ferry_assert(config->hold_timeout_ns >= config->path_timeout_ns);
	ferry_assert(config->memory_bytes >= FERRY_CONFIG_MEMORY_MIN_BYTES);
	ferry_assert(config->nbd_listens_count <= FERRY_CONFIG_LISTENS_MAX);
	for (uint32_t i = 0; i < config->luns_count; i++) {
		ferry_assert(config->luns[i].pool < config->pools_count);
		ferry_assert(config->luns[i].kind != 0);
	}
	for (uint32_t i = 0; i < config->pools_count; i++) {
		ferry_assert(config->pools[i].luns_count > 0);
		for (uint32_t k = 0; k < config->pools[i].luns_count; k++)
			ferry_assert(config->luns[config->pools[i].luns[k]].pool == i);
	}
	for (uint32_t i = 0; i < config->volumes_count; i++) {
		ferry_assert(config->volumes[i].lun < config->luns_count);
		ferry_assert(config->volumes[i].pool == config->luns[config->volumes[i].lun].pool);
	}
	for (uint32_t i = 0; i < config->peers_count; i++)
		ferry_assert(config->peers[i].node.v != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ferry_config config;
	struct ferry_error error = {0};
	int r = ferry_inifile_parse("f", (const char *)data, size, &config, &error);

	if (r == 0) {
		check(&config);
		return 0;
	}
	ferry_assert(r == -EINVAL || r == -EFBIG);
	ferry_assert(error.code == r);
	ferry_assert(error.message[0] != '\0');
	return 0;
}
