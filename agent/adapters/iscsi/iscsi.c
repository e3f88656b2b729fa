#include "agent/adapters/iscsi/iscsi.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/iscsi/private.h"

#define LOGIN_TIMEOUT_NS (3 * FERRY_NS_PER_S)
#define FENCE_TIMEOUT_NS (5 * FERRY_NS_PER_S)

enum { TCP_USER_TIMEOUT_MS = 20 * 1000, PORT_DIGITS_MAX = 5 };

/*
 * An address, for the data loop must never wait for a name server: "192.0.2.1", "[2001:db8::1]",
 * each with ":port" or without.
 */
static bool is_address(const char *portal)
{
	char host[FERRY_ISCSI_PORTAL_MAX + 1];
	struct in6_addr address;
	bool is_v6 = portal[0] == '[';
	const char *start = is_v6 ? portal + 1 : portal;
	size_t length = strcspn(start, is_v6 ? "]" : ":");
	const char *rest = start + length;
	unsigned long port;

	if (length == 0 || length > FERRY_ISCSI_PORTAL_MAX)
		return false;
	memcpy(host, start, length);
	host[length] = '\0';
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, &address) != 1)
		return false;
	if (is_v6 && *rest++ != ']')
		return false;
	if (!*rest)
		return true;
	length = strspn(rest + 1, "0123456789");
	if (*rest != ':' || length == 0 || length > PORT_DIGITS_MAX || rest[1 + length])
		return false;
	port = strtoul(rest + 1, NULL, 10);
	return port > 0 && port <= UINT16_MAX;
}

static int copy_text(const char *what, const char *from, char *ret, size_t size_bytes,
		     struct ferry_error *reterr)
{
	size_t length = from ? strlen(from) : 0;

	ferry_assert(what && ret);
	ferry_assert(size_bytes > 0);
	if (length >= size_bytes)
		return ferry_error_set(reterr, -EINVAL, "%s is longer than %zu characters", what,
				       size_bytes - 1);
	if (length > 0)
		memcpy(ret, from, length);
	ret[length] = '\0';
	return 0;
}

static int check_name(const char *what, const char *name, struct ferry_error *reterr)
{
	if (!name || (strncmp(name, "iqn.", 4) != 0 && strncmp(name, "eui.", 4) != 0 &&
		      strncmp(name, "naa.", 4) != 0))
		return ferry_error_set(reterr, -EINVAL,
				       "%s \"%s\" is no iSCSI name: they begin with iqn., eui. or "
				       "naa.",
				       what, name ? name : "");
	return 0;
}

static int check_config(const struct ferry_iscsi_config *config, struct ferry_error *reterr)
{
	int r;

	ferry_assert(config && config->loop);
	if (!config->portal || !is_address(config->portal))
		return ferry_error_set(reterr, -EINVAL,
				       "portal \"%s\" is not ADDRESS[:PORT]; a name is not "
				       "accepted, for I/O must not wait for a name server",
				       config->portal ? config->portal : "");
	r = check_name("target", config->target, reterr);
	if (r < 0)
		return r;
	r = check_name("initiator", config->initiator, reterr);
	if (r < 0)
		return r;
	if (config->lun > FERRY_ISCSI_LUN_MAX)
		return ferry_error_set(reterr, -EINVAL, "lun %u is more than %d", config->lun,
				       FERRY_ISCSI_LUN_MAX);
	if (config->depth > FERRY_ISCSI_DEPTH_MAX)
		return ferry_error_set(reterr, -EINVAL, "depth %u is more than %d", config->depth,
				       FERRY_ISCSI_DEPTH_MAX);
	if (!config->user != !config->password || !config->target_user != !config->target_password)
		return ferry_error_set(reterr, -EINVAL,
				       "CHAP needs a user and a password, or neither");
	if (config->target_user && !config->user)
		return ferry_error_set(reterr, -EINVAL,
				       "the target's CHAP user needs the initiator's as well");
	if (config->tcp_user_timeout_ms > INT32_MAX)
		return ferry_error_set(reterr, -EINVAL, "the TCP user timeout is too long");
	return 0;
}

static int copy_config(struct ferry_iscsi *iscsi, const struct ferry_iscsi_config *config,
		       struct ferry_error *reterr)
{
	const char *secrets[] = {config->user, config->password, config->target_user,
				 config->target_password};
	int r;

	iscsi->config = *config;
	if (!iscsi->config.depth)
		iscsi->config.depth = FERRY_ISCSI_DEPTH_DEFAULT;
	if (!iscsi->config.login_timeout_ns)
		iscsi->config.login_timeout_ns = LOGIN_TIMEOUT_NS;
	if (!iscsi->config.fence_timeout_ns)
		iscsi->config.fence_timeout_ns = FENCE_TIMEOUT_NS;
	if (!iscsi->config.tcp_user_timeout_ms)
		iscsi->config.tcp_user_timeout_ms = TCP_USER_TIMEOUT_MS;
	r = copy_text("the portal", config->portal, iscsi->portal, sizeof(iscsi->portal), reterr);
	if (r < 0)
		return r;
	r = copy_text("the target", config->target, iscsi->target, sizeof(iscsi->target), reterr);
	if (r < 0)
		return r;
	r = copy_text("the initiator", config->initiator, iscsi->initiator,
		      sizeof(iscsi->initiator), reterr);
	for (size_t i = 0; r == 0 && i < FERRY_ARRAY_COUNT(secrets); i++)
		r = copy_text("a CHAP user or password", secrets[i], iscsi->secrets[i],
			      sizeof(iscsi->secrets[i]), reterr);
	iscsi->config.portal = iscsi->portal;
	iscsi->config.target = iscsi->target;
	iscsi->config.initiator = iscsi->initiator;
	iscsi->config.user = iscsi->config.password = NULL; /* In secrets, and only there. */
	iscsi->config.target_user = iscsi->config.target_password = NULL;
	return r;
}

static void work_run(struct ferry_task *task)
{
	ferry_iscsi_settle(FERRY_CONTAINER_OF(task, struct ferry_iscsi, work));
}

static void init_parts(struct ferry_iscsi *iscsi)
{
	iscsi->path = (struct ferry_path){
		.ops = &FERRY_ISCSI_PATH_OPS,
		.kind = FERRY_PATH_LOCAL,
		.node = iscsi->config.node,
		.on_state = iscsi->config.on_state,
		.on_room = iscsi->config.on_room,
		.context = iscsi->config.context,
	};
	iscsi->fence.ops = &FERRY_ISCSI_FENCE_OPS;
	iscsi->state = FERRY_ISCSI_RESTING;
	iscsi->backoff_ns = FERRY_ISCSI_BACKOFF_MIN_NS;
	iscsi->session_timer.run = ferry_iscsi_session_timer_run;
	iscsi->retry_timer.run = ferry_iscsi_retry_timer_run;
	iscsi->idle_timer.run = ferry_iscsi_idle_timer_run;
	iscsi->work.run = work_run;
	ferry_list_init(&iscsi->calls_out);
	ferry_list_init(&iscsi->calls_lingering);
	ferry_list_init(&iscsi->calls_done);
	ferry_list_init(&iscsi->slots_free);
	ferry_list_init(&iscsi->waiting);
	ferry_list_init(&iscsi->resting);
	ferry_iscsi_fence_init(iscsi);
	for (uint32_t i = 0; i < iscsi->config.depth; i++) {
		ferry_list_init(&iscsi->slots[i].link);
		ferry_list_append(&iscsi->slots_free, &iscsi->slots[i].link);
	}
}

int ferry_iscsi_open(const struct ferry_iscsi_config *config, struct ferry_iscsi **ret,
		     struct ferry_error *reterr)
{
	struct ferry_iscsi *iscsi;
	int r;

	ferry_assert(ret);
	r = check_config(config, reterr);
	if (r < 0)
		return r;
	FERRY_ASSERT_ON_LOOP(config->loop);
	iscsi = calloc(1, sizeof(*iscsi));
	if (!iscsi)
		return ferry_error_set(reterr, -ENOMEM, "no memory for an iSCSI path");
	r = copy_config(iscsi, config, reterr);
	if (r == 0) {
		iscsi->slots = calloc(iscsi->config.depth, sizeof(*iscsi->slots));
		iscsi->zeroes = calloc(1, FERRY_ISCSI_ZEROES_BYTES);
		if (!iscsi->slots || !iscsi->zeroes)
			r = ferry_error_set(reterr, -ENOMEM, "no memory for %u iSCSI commands",
					    iscsi->config.depth);
	}
	if (r < 0) {
		free(iscsi->zeroes);
		free(iscsi->slots);
		free(iscsi);
		return r;
	}
	init_parts(iscsi);
	ferry_timer_start_in(iscsi->config.loop, &iscsi->session_timer, 0);
	*ret = iscsi;
	return 0;
}

void ferry_iscsi_close(struct ferry_iscsi *iscsi, void (*on_closed)(void *context), void *context)
{
	FERRY_ASSERT_ON_LOOP(iscsi->config.loop);
	ferry_assert(!iscsi->is_closing);
	iscsi->is_closing = true;
	iscsi->on_closed = on_closed;
	iscsi->on_closed_context = context;
	ferry_timer_stop(iscsi->config.loop, &iscsi->session_timer);
	ferry_iscsi_session_leave(iscsi);
	ferry_iscsi_settle_later(iscsi);
}

struct ferry_path *ferry_iscsi_path(struct ferry_iscsi *iscsi)
{
	return &iscsi->path;
}

struct ferry_fence *ferry_iscsi_fence(struct ferry_iscsi *iscsi)
{
	return iscsi->has_identity && iscsi->lun.has_reservations ? &iscsi->fence : NULL;
}

const struct ferry_lun_identity *ferry_iscsi_identity(const struct ferry_iscsi *iscsi)
{
	return iscsi->has_identity ? &iscsi->identity : NULL;
}

const char *ferry_iscsi_last_error(const struct ferry_iscsi *iscsi)
{
	return iscsi->last_error;
}

const struct ferry_iscsi_counters *ferry_iscsi_counters(const struct ferry_iscsi *iscsi)
{
	return &iscsi->counters;
}

bool ferry_iscsi_lays_by_reset(const struct ferry_iscsi *iscsi)
{
	ferry_assert(iscsi);
	return iscsi->fence.ability.laying == FERRY_LAYING_RESET;
}
