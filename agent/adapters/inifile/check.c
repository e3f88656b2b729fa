#include <stdio.h>

#include "agent/adapters/inifile/internal.h"

static int missing(struct parser *parser, const char *kind, const char *name, const char *what)
{
	return fail_at(parser, parser->section_line, "[%s %s] has no %s; add it", kind, name, what);
}

/* A file has no reservations; at a device the kernel, not Ferry, has the session. */
static int laying_check(struct parser *parser, const struct ferry_config_lun *lun)
{
	static const char *const keys[] = {"laying", "quiesce_time"};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(keys); i++)
		if (lun->kind == FERRY_CONFIG_LUN_FILE && key_is_seen(parser, keys[i]))
			return fail_at(parser, parser->section_line,
				       "[lun %s] has %s, but a file has no reservations", lun->name,
				       keys[i]);
	if (lun->kind == FERRY_CONFIG_LUN_DEVICE &&
	    (lun->laying == FERRY_LAYING_RESET || lun->laying == FERRY_LAYING_REINSTATE))
		return fail_at(parser, parser->section_line,
			       "[lun %s]: laying of a device is abort or quiesce; only Ferry's own "
			       "session (iscsi =) can do more",
			       lun->name);
	if (lun->laying == FERRY_LAYING_QUIESCE && lun->quiesce_time_ns == 0)
		return missing(parser, "lun", lun->name, "quiesce_time");
	return 0;
}

static int lun_check(struct parser *parser, const struct ferry_config_lun *lun)
{
	static const char *const iscsi_only[] = {"initiator", "chap_user", "chap_password_file"};

	if (lun->kind == 0)
		return missing(parser, "lun", lun->name, "device, file or iscsi");
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(iscsi_only); i++)
		if (lun->kind != FERRY_CONFIG_LUN_ISCSI && key_is_seen(parser, iscsi_only[i]))
			return fail_at(parser, parser->section_line,
				       "[lun %s] has %s, which only an iscsi lun may have",
				       lun->name, iscsi_only[i]);
	if ((lun->chap_user[0] == '\0') != (lun->chap_password_file[0] == '\0'))
		return missing(parser, "lun", lun->name,
			       lun->chap_user[0] == '\0' ? "chap_user" : "chap_password_file");
	return laying_check(parser, lun);
}

/* [peer 3] is node 3; with a name that is no number it has to be said. */
static int peer_check(struct parser *parser, struct ferry_config_peer *peer)
{
	uint64_t number = 0;

	if (peer->endpoint.port == 0)
		peer->endpoint.port = FERRY_CONFIG_PORT_DEFAULT;
	if (strspn(peer->name, "0123456789") != strlen(peer->name)) {
		if (peer->node.v == 0)
			return missing(parser, "peer", peer->name, "node_id");
		return 0;
	}
	for (const char *digit = peer->name; *digit != '\0' && number <= UINT32_MAX; digit++)
		number = number * 10 + (uint64_t)(*digit - '0');
	if (number == 0 || number > UINT32_MAX)
		return fail_at(parser, parser->section_line, "[peer %s]: a node id is from 1 to %u",
			       peer->name, UINT32_MAX);
	if (peer->node.v != 0 && peer->node.v != number)
		return fail_at(parser, parser->section_line,
			       "[peer %s] has node_id = %u; give it a name that is no number, or "
			       "leave node_id out",
			       peer->name, peer->node.v);
	peer->node.v = (uint32_t)number;
	return 0;
}

int section_check(struct parser *parser)
{
	struct ferry_config *config = parser->config;

	ferry_assert(parser->error == 0);
	switch (parser->section) {
	case SECTION_LUN:
		return lun_check(parser, parser->base);
	case SECTION_PEER:
		return peer_check(parser, parser->base);
	case SECTION_POOL:
		if (!key_is_seen(parser, "luns"))
			return missing(parser, "pool", config->pools[config->pools_count - 1].name,
				       "luns");
		return 0;
	case SECTION_VOLUME:
		if (!key_is_seen(parser, "lun") && !key_is_seen(parser, "pool"))
			return missing(parser, "volume",
				       config->volumes[config->volumes_count - 1].name, "lun");
		return 0;
	case SECTION_NONE:
	case SECTION_AGENT:
	case SECTION_CACHE:
	case SECTION_DECISION:
	case SECTION_PACEMAKER:
	case SECTION_NBD:
	case SECTION_FUSE:
	case SECTION_UBLK:
	case SECTION_END:
	default:
		return 0;
	}
}

static bool is_same_lun(const struct ferry_config_lun *a, const struct ferry_config_lun *b)
{
	if (a->wwid[0] != '\0' && strcmp(a->wwid, b->wwid) == 0)
		return true;
	if ((a->kind == FERRY_CONFIG_LUN_ISCSI) != (b->kind == FERRY_CONFIG_LUN_ISCSI))
		return false;
	if (a->kind != FERRY_CONFIG_LUN_ISCSI)
		return strcmp(a->path, b->path) == 0;
	/* A target's name is worldwide: other portals lead to the same lun. */
	return strcmp(a->target, b->target) == 0 && a->target_lun == b->target_lun;
}

static int luns_compare(struct parser *parser)
{
	const struct ferry_config *config = parser->config;

	for (uint32_t i = 0; i < config->luns_count; i++)
		for (uint32_t k = 0; k < i; k++)
			if (is_same_lun(&config->luns[i], &config->luns[k]))
				return fail_at(parser, config->luns[i].line,
					       "[lun %s] is the same lun as [lun %s] at line %u; "
					       "remove one",
					       config->luns[i].name, config->luns[k].name,
					       config->luns[k].line);
	return 0;
}

static int peers_compare(struct parser *parser)
{
	const struct ferry_config *config = parser->config;

	for (uint32_t i = 0; i < config->peers_count; i++)
		for (uint32_t k = 0; k < i; k++) {
			const struct ferry_config_peer *a = &config->peers[i];
			const struct ferry_config_peer *b = &config->peers[k];

			if (a->node.v == b->node.v)
				return fail_at(parser, a->line,
					       "[peer %s] has the node id of [peer %s]: %u",
					       a->name, b->name, a->node.v);
			if (a->endpoint.address[0] != '\0' &&
			    strcmp(a->endpoint.address, b->endpoint.address) == 0 &&
			    a->endpoint.port == b->endpoint.port)
				return fail_at(parser, a->line,
					       "[peer %s] has the address of [peer %s]: %s port %u",
					       a->name, b->name, a->endpoint.address,
					       a->endpoint.port);
		}
	return 0;
}

static int lun_find(struct parser *parser, uint32_t line, const char *name, size_t length,
		    uint32_t *ret)
{
	const struct ferry_config *config = parser->config;

	for (uint32_t i = 0; i < config->luns_count; i++)
		if (strlen(config->luns[i].name) == length &&
		    memcmp(config->luns[i].name, name, length) == 0) {
			*ret = i;
			return 0;
		}
	return fail_at(parser, line, "there is no [lun %.*s]; add it, or correct the name",
		       (int)ferry_min_u64(length, 60), name);
}

/* What is no pool's yet. */
enum { POOL_NONE = FERRY_CONFIG_POOLS_MAX };

static int pool_resolve(struct parser *parser, uint32_t index)
{
	struct ferry_config_pool *pool = &parser->config->pools[index];
	const struct pending_names *pending = &parser->pool_luns[index];
	int r;

	ferry_assert(pending->line > 0);
	for (const char *name = pending->text; *name != '\0';) {
		size_t length;
		uint32_t lun;

		name += strspn(name, ", \t");
		length = strcspn(name, ", \t");
		if (length == 0)
			break;
		r = lun_find(parser, pending->line, name, length, &lun);
		if (r < 0)
			return r;
		if (parser->config->luns[lun].pool != POOL_NONE)
			return fail_at(parser, pending->line,
				       "lun %.*s is in [pool %s] already; a lun is in one pool",
				       (int)length, name,
				       parser->config->pools[parser->config->luns[lun].pool].name);
		if (pool->luns_count == FERRY_CONFIG_POOL_LUNS_MAX)
			return fail_at(parser, pending->line, "a pool has at most %d luns",
				       FERRY_CONFIG_POOL_LUNS_MAX);
		parser->config->luns[lun].pool = index;
		pool->luns[pool->luns_count++] = lun;
		name += length;
	}
	if (pool->luns_count == 0)
		return fail_at(parser, pending->line, "luns names no lun");
	return 0;
}

static int volume_resolve(struct parser *parser, uint32_t index)
{
	struct ferry_config *config = parser->config;
	struct ferry_config_volume *volume = &config->volumes[index];
	const struct pending_names *lun = &parser->volume_luns[index];
	const struct pending_names *pool = &parser->volume_pools[index];
	int r;

	volume->pool = POOL_NONE;
	for (uint32_t i = 0; pool->line != 0 && i < config->pools_count; i++)
		if (strcmp(config->pools[i].name, pool->text) == 0)
			volume->pool = i;
	if (pool->line != 0 && volume->pool == POOL_NONE)
		return fail_at(parser, pool->line,
			       "there is no [pool %.60s]; add it, or correct the name", pool->text);
	if (lun->line != 0) {
		r = lun_find(parser, lun->line, lun->text, strlen(lun->text), &volume->lun);
		if (r < 0)
			return r;
		if (pool->line != 0 && config->luns[volume->lun].pool != volume->pool)
			return fail_at(parser, pool->line, "lun %s is not in pool %s", lun->text,
				       pool->text);
		volume->pool = config->luns[volume->lun].pool;
	} else {
		if (config->pools[volume->pool].luns_count != 1)
			return fail_at(parser, pool->line,
				       "pool %s has several luns; say which: lun = NAME",
				       pool->text);
		volume->lun = config->pools[volume->pool].luns[0];
	}
	for (uint32_t i = 0; i < index; i++)
		if (config->volumes[i].lun == volume->lun)
			return fail_at(parser, volume->line,
				       "[volume %s] is on the lun of [volume %s]; a lun has one "
				       "volume",
				       volume->name, config->volumes[i].name);
	return 0;
}

int config_check(struct parser *parser)
{
	struct ferry_config *config = parser->config;
	int r;

	if (config->hold_timeout_ns < config->path_timeout_ns)
		return fail_at(parser, parser->section_lines[SECTION_AGENT],
			       "hold_timeout is less than path_timeout: I/O would fail before a "
			       "path is given up");
	r = peers_compare(parser);
	if (r == 0)
		r = luns_compare(parser);
	for (uint32_t i = 0; i < config->luns_count; i++)
		config->luns[i].pool = POOL_NONE;
	for (uint32_t i = 0; r == 0 && i < config->pools_count; i++)
		r = pool_resolve(parser, i);
	for (uint32_t i = 0; r == 0 && i < config->luns_count; i++)
		if (config->luns[i].pool == POOL_NONE)
			r = fail_at(parser, config->luns[i].line,
				    "[lun %s] is in no pool; name it in the luns of one",
				    config->luns[i].name);
	for (uint32_t i = 0; r == 0 && i < config->volumes_count; i++)
		r = volume_resolve(parser, i);
	if (r < 0)
		return r;
	if (config->fuse_mountpoint[0] == '\0')
		(void)snprintf(config->fuse_mountpoint, sizeof(config->fuse_mountpoint),
			       "%s/volumes", config->run_dir);
	if (config->is_nbd && config->nbd_listens_count == 0) {
		struct ferry_config_listen *listen = &config->nbd_listens[0];

		listen->is_unix = true;
		(void)snprintf(listen->path, sizeof(listen->path), "%s/nbd.sock", config->run_dir);
		config->nbd_listens_count = 1;
	}
	return 0;
}
