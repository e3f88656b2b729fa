#include "agent/cluster.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/adapters/openssl/openssl.h"
#include "agent/cluster_internal.h"
#include "proto/stored.h"

#define STOP_NS_MAX (20 * FERRY_NS_PER_S)
#define STOP_POLL_NS (20 * FERRY_NS_PER_MS)
#define PULSE_NS (100 * FERRY_NS_PER_MS) /* Well below FERRY_ENGINE_FREEZE_NS. */

/* ---- Events: to the log, and to who watches. ---- */

static uint64_t wall_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void events_emit(struct ferry_events *events, const struct ferry_event *event)
{
	struct ferry_cluster *cluster = FERRY_CONTAINER_OF(events, struct ferry_cluster, events);

	ferry_log_event(event);
	if (cluster->grpc)
		ferry_grpc_server_publish(cluster->grpc, event, wall_ns(), cluster->self);
}

/* ---- Stopping. ---- */

static void stop_step(struct ferry_timer *timer)
{
	struct ferry_cluster *cluster = FERRY_CONTAINER_OF(timer, struct ferry_cluster, stop_timer);
	struct ferry_mail stop = {.kind = FERRY_MAIL_STOP};
	bool is_late = ferry_loop_now_ns(cluster->loop) >= cluster->stop_deadline_ns;
	bool is_quiet = true;

	for (uint32_t i = 0; i < cluster->pools_count; i++)
		is_quiet &= cluster_pool_is_quiet(&cluster->pools[i]);
	if (cluster->data_is_stopped) {
		ferry_qb_loop_stop(cluster->qb);
		return;
	}
	if (is_late && cluster->data_was_told) {
		ferry_log(FERRY_SEVERITY_ERROR, "the data thread does not stop: ending without it");
		cluster->result = -ETIMEDOUT;
		ferry_qb_loop_stop(cluster->qb);
		return;
	}
	if ((is_quiet || is_late) && !cluster->data_was_told) {
		cluster->data_was_told = true;
		cluster->stop_deadline_ns = ferry_loop_now_ns(cluster->loop) + STOP_NS_MAX;
		ferry_mail_to_data(&cluster->mailbox, &stop);
	}
	ferry_timer_start_in(cluster->loop, timer, STOP_POLL_NS);
}

static void stop_begin(struct ferry_cluster *cluster)
{
	if (cluster->is_stopping)
		return;
	cluster->is_stopping = true;
	if (cluster->grpc)
		ferry_grpc_server_set_serving(cluster->grpc, false);
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		cluster_pool_release(&cluster->pools[i], /* request= */ NULL);
	cluster->stop_deadline_ns = ferry_loop_now_ns(cluster->loop) + STOP_NS_MAX;
	ferry_timer_start_in(cluster->loop, &cluster->stop_timer, 0);
}

static void on_signal(void *context, int number)
{
	struct ferry_cluster *cluster = context;

	if (number == SIGUSR1) {
		if (ferry_log_dump("request") < 0)
			ferry_log(FERRY_SEVERITY_WARNING, "the blackbox cannot be dumped");
		return;
	}
	ferry_log(FERRY_SEVERITY_NOTICE, "signal %d: stopping", number);
	stop_begin(cluster);
}

void ferry_cluster_data_ended(struct ferry_cluster *cluster)
{
	ferry_assert(cluster);
	cluster->data_has_ended = true;
	ferry_qb_loop_wake(cluster->qb);
}

/* ---- From the data thread. ---- */

static void mail_handle(struct ferry_cluster *cluster, const struct ferry_mail *mail)
{
	switch ((int)mail->kind) {
	case FERRY_MAIL_EVENT:
		events_emit(&cluster->events, &mail->event);
		break;
	case FERRY_MAIL_SNAPPED:
		control_snapped(cluster);
		break;
	case FERRY_MAIL_STOPPED:
		cluster->data_is_stopped = true;
		if (!mail->flag)
			ferry_log(FERRY_SEVERITY_WARNING,
				  "some I/O has not ended: leaving it to the kernel");
		break;
	default:
		ferry_assert(mail->pool < cluster->pools_count);
		cluster_pool_mail(&cluster->pools[mail->pool], mail);
		break;
	}
}

static void mail_arrived(void *context)
{
	struct ferry_cluster *cluster = context;
	struct ferry_mail mail;

	while (ferry_spsc_pop(&cluster->mailbox.to_cluster, &mail) == 0)
		mail_handle(cluster, &mail);
	if (cluster->data_has_ended && !cluster->data_is_stopped) {
		ferry_log(FERRY_SEVERITY_ERROR, "the data thread has failed");
		cluster->result = -EIO;
		ferry_qb_loop_stop(cluster->qb);
	}
}

/* ---- From the group. ---- */

static bool members_have(const struct ferry_members *members, struct ferry_node node)
{
	for (uint32_t i = 0; i < members->count; i++)
		if (members->nodes[i].v == node.v)
			return true;
	return false;
}

static void on_members(struct ferry_group *group, const struct ferry_members *members)
{
	struct ferry_cluster *cluster = group->context;

	cluster->members = *members;
	if (cluster->stonith)
		ferry_power_watch_members(&cluster->power, members);
	for (uint32_t i = 0; i < cluster->peers_count; i++) {
		struct ferry_mail mail = {.kind = FERRY_MAIL_PEER,
					  .node = cluster->peers[i].node,
					  .flag = members_have(members, cluster->peers[i].node)};

		ferry_mail_to_data(&cluster->mailbox, &mail);
	}
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (cluster->pools[i].is_open)
			ferry_ownership_members(&cluster->pools[i].ownership, members);
}

/* Rule 15: what was held for quorum fails now, and so does what comes after it. */
static void quorum_is_overdue(struct ferry_timer *timer)
{
	struct ferry_cluster *cluster =
		FERRY_CONTAINER_OF(timer, struct ferry_cluster, quorum_timer);

	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		struct ferry_mail mail = {.kind = FERRY_MAIL_FAIL, .pool = i};

		ferry_mail_to_data(&cluster->mailbox, &mail);
	}
	ferry_timer_start_in(cluster->loop, timer, FERRY_NS_PER_S);
}

static void on_quorum(struct ferry_group *group)
{
	struct ferry_cluster *cluster = group->context;

	if (group->is_quorate)
		ferry_timer_stop(cluster->loop, &cluster->quorum_timer);
	else if (!ferry_timer_is_started(&cluster->quorum_timer))
		ferry_timer_start_in(cluster->loop, &cluster->quorum_timer,
				     cluster->settings->config.quorum_timeout_ns);
	ferry_log(FERRY_SEVERITY_NOTICE, "quorum: %s, ring %llx", group->is_quorate ? "yes" : "NO",
		  (unsigned long long)group->ring);
	if (cluster->stonith)
		ferry_power_watch_quorum(&cluster->power, group->is_quorate);
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (cluster->pools[i].is_open)
			ferry_ownership_quorum(&cluster->pools[i].ownership);
}

static void on_message(struct ferry_group *group, struct ferry_node from, const void *bytes,
		       size_t length_bytes)
{
	struct ferry_cluster *cluster = group->context;
	struct ferry_group_message message;
	struct ferry_error error;

	if (ferry_group_message_decode(bytes, length_bytes, &message, &error) < 0) {
		ferry_log(FERRY_SEVERITY_ERROR, "from node %u: %s", from.v, error.message);
		return;
	}
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (cluster->pools[i].is_open)
			ferry_ownership_message(&cluster->pools[i].ownership, from, &message);
}

/* Without corosync this node knows nothing: it stops, and its successor starts clean. */
static void on_lost(struct ferry_group *group, const char *why)
{
	struct ferry_cluster *cluster = group->context;

	ferry_log(FERRY_SEVERITY_ERROR, "corosync is gone: %s", why);
	cluster->result = -ECONNRESET;
	group->is_quorate = false;
	cluster->members.count = 0;
	on_members(group, &cluster->members);
	stop_begin(cluster);
}

/* ---- Opening. ---- */

static int incarnation_next(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	struct ferry_store *store = ferry_statefile_store(cluster->state);
	uint8_t bytes[FERRY_STORE_VALUE_BYTES_MAX];
	int r;

	r = store->ops->load(store, "incarnation", bytes, sizeof(bytes));
	if (r >= 0)
		r = ferry_stored_incarnation_decode(bytes, (size_t)r, &cluster->incarnation);
	if (r < 0 && r != -ENOENT)
		return ferry_error_set(reterr, r,
				       "%s/incarnation cannot be read or is damaged: with an old "
				       "number this agent's writes could be taken for another's; "
				       "write the state directory back from a backup",
				       cluster->settings->config.state_dir);
	cluster->incarnation.v++;
	ferry_stored_incarnation_encode(cluster->incarnation, bytes);
	r = store->ops->save(store, "incarnation", bytes, FERRY_STORED_INCARNATION_BYTES);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s/incarnation cannot be saved: %s",
				       cluster->settings->config.state_dir, strerror(-r));
	return 0;
}

/* A peer's numeric address: the configuration's, or what corosync's node list names. */
static int peer_address(struct ferry_cluster *cluster, struct ferry_node node, const char *wanted,
			char *ret, struct ferry_error *reterr)
{
	const char *name =
		wanted[0] ? wanted : ferry_corosync_node_address(cluster->corosync, node);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int r;

	if (!name)
		return ferry_error_set(reterr, -EINVAL, "node %u is not in corosync's node list",
				       node.v);
	r = getaddrinfo(name, NULL, &hints, &found);
	if (r != 0)
		return ferry_error_set(reterr, -EINVAL, "node %u: address %s: %s", node.v, name,
				       gai_strerror(r));
	r = getnameinfo(found->ai_addr, found->ai_addrlen, ret, FERRY_CONFIG_ADDRESS_BYTES, NULL, 0,
			NI_NUMERICHOST);
	freeaddrinfo(found);
	if (r != 0)
		return ferry_error_set(reterr, -EINVAL, "node %u: address %s: %s", node.v, name,
				       gai_strerror(r));
	return 0;
}

/* A wildcard to listen on names no device: then corosync's address does. */
static int own_addresses(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	const char *wanted = cluster->settings->config.listen.address;
	bool is_wildcard = strcmp(wanted, "0.0.0.0") == 0 || strcmp(wanted, "::") == 0;
	int r = peer_address(cluster, cluster->self, wanted, cluster->own_address, reterr);

	if (r < 0)
		return r;
	return peer_address(cluster, cluster->self, is_wildcard ? "" : wanted,
			    cluster->rdma_address, reterr);
}

static int peers_find(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	const struct ferry_config *config = &cluster->settings->config;
	struct ferry_node nodes[FERRY_NODES_MAX];
	uint32_t count = ferry_corosync_nodes(cluster->corosync, nodes);

	for (uint32_t i = 0; i < count; i++) {
		struct ferry_data_peer *peer = &cluster->peers[cluster->peers_count];
		char *address = cluster->addresses[cluster->peers_count];
		const char *wanted = "";
		int r;

		if (nodes[i].v == cluster->self.v)
			continue;
		*peer = (struct ferry_data_peer){
			.node = nodes[i], .address = address, .port = FERRY_CONFIG_PORT_DEFAULT};
		for (uint32_t j = 0; j < config->peers_count; j++) {
			if (config->peers[j].node.v != nodes[i].v)
				continue;
			wanted = config->peers[j].endpoint.address;
			peer->port = config->peers[j].endpoint.port;
		}
		r = peer_address(cluster, nodes[i], wanted, address, reterr);
		if (r < 0)
			return r;
		cluster->peers_count++;
	}
	return 0;
}

static int cluster_connect(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	const struct ferry_config *config = &cluster->settings->config;
	struct ferry_pacemaker_config pacemaker = {.loop = cluster->loop};
	int r;

	r = ferry_statefile_open(config->state_dir, &cluster->state, reterr);
	if (r < 0)
		return r;
	r = incarnation_next(cluster, reterr);
	if (r < 0)
		return r;
	r = ferry_auth_file_open(config->key_file, &cluster->auth, reterr);
	if (r < 0)
		return r;
	r = ferry_corosync_open(cluster->loop, &cluster->corosync, reterr);
	if (r < 0)
		return r;
	cluster->group = ferry_corosync_group(cluster->corosync);
	cluster->self = cluster->group->self;
	if (cluster->self.v > FERRY_KEY_NODE_MAX)
		return ferry_error_set(reterr, -EINVAL,
				       "this node's id is %u; reservation keys hold ids up to %d: "
				       "give it a smaller nodeid in corosync.conf",
				       cluster->self.v, FERRY_KEY_NODE_MAX);
	(void)snprintf(cluster->name, sizeof(cluster->name), "%s",
		       ferry_corosync_cluster(cluster->corosync));
	(void)snprintf(cluster->node_name, sizeof(cluster->node_name), "%s",
		       ferry_corosync_node_name(cluster->corosync, cluster->self));
	r = peers_find(cluster, reterr);
	if (r < 0)
		return r;
	r = cluster_power_open(cluster, reterr);
	if (r < 0)
		return r;
	if (config->is_published)
		return ferry_pacemaker_open(&pacemaker, &cluster->pacemaker, reterr);
	return 0;
}

static void standalone_connect(struct ferry_cluster *cluster)
{
	cluster->self.v = 1;
	cluster->incarnation.v = wall_ns() / FERRY_NS_PER_S;
	(void)snprintf(cluster->node_name, sizeof(cluster->node_name), "standalone");
}

static void wake_cluster(void *context)
{
	struct ferry_cluster *cluster = context;

	ferry_qb_loop_wake(cluster->qb);
}

static int mailbox_open(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	size_t size_bytes = ferry_mailbox_memory_bytes();
	struct ferry_region region;
	void *memory = NULL;

	if (posix_memalign(&memory, 64, size_bytes) != 0)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the mailbox");
	cluster->mail_memory = memory;
	ferry_region_init(&region, memory, size_bytes);
	cluster->mailbox.wake_data = ferry_data_wake;
	cluster->mailbox.wake_cluster = wake_cluster;
	cluster->mailbox.cluster_context = cluster;
	ferry_qb_loop_on_wake(cluster->qb, mail_arrived, cluster);
	return ferry_mailbox_init(&cluster->mailbox, &region);
}

static int log_open(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	const struct ferry_settings *settings = cluster->settings;
	struct ferry_log_config config = {
		.name = "ferryd",
		.target = settings->logs_to_syslog ? FERRY_LOG_SYSLOG : FERRY_LOG_STDERR,
		.level = settings->config.log_level,
		.blackbox_bytes = (uint32_t)FERRY_MIB,
		.state_dir = settings->is_standalone ? NULL : settings->config.state_dir,
	};

	return ferry_log_open(&config, reterr);
}

static void control_path(const struct ferry_settings *settings, char ret[FERRY_CONFIG_SOCKET_BYTES])
{
	(void)snprintf(ret, FERRY_CONFIG_SOCKET_BYTES, "%s/ferry.sock", settings->config.run_dir);
}

/*
 * Before the data thread's front ends open: they may lie there too. And before a lun does: a second
 * agent's session would end the first one's.
 */
static int run_dir_make(const struct ferry_settings *settings, struct ferry_error *reterr)
{
	const char *run_dir = settings->config.run_dir;
	char path[FERRY_CONFIG_SOCKET_BYTES];

	if (!settings->has_control)
		return 0;
	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST)
		return ferry_error_set(reterr, -errno, "%s: %s", run_dir, strerror(errno));
	control_path(settings, path);
	return ferry_grpc_check_unserved(path, reterr);
}

static int cluster_open(struct ferry_cluster *cluster, struct ferry_data_config *ret_data,
			struct ferry_error *reterr)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGUSR1};
	struct ferry_settings *settings = cluster->settings;
	int r;

	r = ferry_qb_loop_open(&cluster->qb, reterr);
	if (r < 0)
		return r;
	cluster->loop = ferry_qb_loop_port(cluster->qb);
	cluster->started_ns = ferry_loop_now_ns(cluster->loop);
	r = ferry_qb_loop_signals(cluster->qb, signals, FERRY_ARRAY_COUNT(signals), on_signal,
				  cluster);
	if (r < 0)
		return ferry_error_set(reterr, r, "signals: %s", strerror(-r));
	r = log_open(cluster, reterr);
	if (r == 0)
		r = run_dir_make(settings, reterr);
	if (r == 0)
		r = mailbox_open(cluster, reterr);
	if (r < 0)
		return r;
	if (settings->is_standalone)
		standalone_connect(cluster);
	else
		r = cluster_connect(cluster, reterr);
	if (r < 0)
		return r;
	ferry_log_set_self(cluster->self);
	r = ferry_settings_data(settings, cluster->node_name,
				settings->is_standalone ? NULL : cluster->name, ret_data, reterr);
	if (r < 0)
		return r;
	ret_data->mailbox = &cluster->mailbox;
	ret_data->self = cluster->self;
	ret_data->incarnation = cluster->incarnation;
	ret_data->auth = cluster->auth;
	ret_data->listen_port = settings->config.listen.port;
	ret_data->listen_address = cluster->own_address;
	ret_data->peers_count = cluster->peers_count;
	memcpy(ret_data->peers, cluster->peers, sizeof(cluster->peers));
	ret_data->rdma_address = cluster->rdma_address;
	if (!settings->is_standalone)
		r = own_addresses(cluster, reterr);
	cluster->pools_count = ret_data->pools_count;
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		cluster_pool_init(cluster, i);
		cluster->data_lineages[i] = ret_data->pools[i].lineage;
	}
	return r;
}

int ferry_cluster_open(struct ferry_settings *settings, const struct ferry_system *system,
		       struct ferry_cluster **ret, struct ferry_data_config *ret_data,
		       struct ferry_error *reterr)
{
	_cleanup_(ferry_cluster_closep) struct ferry_cluster *cluster = NULL;
	int r;

	ferry_assert(settings && system && ret && ret_data);
	cluster = calloc(1, sizeof(*cluster));
	if (!cluster)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	cluster->settings = settings;
	cluster->system = *system;
	cluster->events.emit = events_emit;
	cluster->stop_timer.run = stop_step;
	cluster->quorum_timer.run = quorum_is_overdue;
	cluster->control.ops = &control_ops;
	cluster->snapshot = calloc(1, sizeof(*cluster->snapshot));
	if (!cluster->snapshot)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	r = cluster_open(cluster, ret_data, reterr);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(cluster);
	return 0;
}

static int control_open(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	char path[FERRY_CONFIG_SOCKET_BYTES];
	struct ferry_grpc_config config = {
		.socket_path = path,
		.version = FERRY_VERSION,
		.wire_version = FERRY_WIRE_VERSION,
		.loop = cluster->loop,
		.control = &cluster->control,
	};
	int r;

	if (!cluster->settings->has_control)
		return 0;
	control_path(cluster->settings, path);
	r = ferry_grpc_server_open(&config, &cluster->grpc, reterr);
	if (r == 0)
		ferry_grpc_server_set_serving(cluster->grpc, true);
	return r;
}

/* The data thread sees by it that this thread runs. */
static void pulse(struct ferry_timer *timer)
{
	struct ferry_cluster *cluster =
		FERRY_CONTAINER_OF(timer, struct ferry_cluster, pulse_timer);

	atomic_store(&cluster->mailbox.cluster_ran_ns, ferry_loop_now_ns(cluster->loop));
	ferry_timer_start_in(cluster->loop, timer, PULSE_NS);
}

int ferry_cluster_start(struct ferry_cluster *cluster, struct ferry_data *data,
			struct ferry_error *reterr)
{
	int r;

	ferry_assert(cluster && data);
	cluster->data = data;
	cluster->mailbox.data_context = data;
	if (cluster->system.memory_note[0])
		ferry_log(FERRY_SEVERITY_WARNING, "%s", cluster->system.memory_note);
	if (cluster->system.flusher_note[0])
		ferry_log(FERRY_SEVERITY_WARNING, "%s", cluster->system.flusher_note);
	r = control_open(cluster, reterr);
	if (r < 0 || !cluster->group)
		return r;
	cluster->group->on_members = on_members;
	cluster->group->on_quorum = on_quorum;
	cluster->group->on_message = on_message;
	cluster->group->on_lost = on_lost;
	cluster->group->context = cluster;
	return ferry_corosync_join(cluster->corosync, reterr);
}

int ferry_cluster_run(struct ferry_cluster *cluster)
{
	ferry_assert(cluster && cluster->data);
	ferry_log(FERRY_SEVERITY_NOTICE, "ferryd %s: node %u (%s), incarnation %llu", FERRY_VERSION,
		  cluster->self.v, cluster->node_name, (unsigned long long)cluster->incarnation.v);
	mail_arrived(cluster); /* What was said before the loop ran. */
	cluster->pulse_timer.run = pulse;
	pulse(&cluster->pulse_timer);
	ferry_qb_loop_run(cluster->qb);
	ferry_log(FERRY_SEVERITY_NOTICE, "stopped");
	return cluster->result;
}

struct ferry_cluster *ferry_cluster_close(struct ferry_cluster *cluster)
{
	if (!cluster)
		return NULL;
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		cluster_pool_close(&cluster->pools[i]);
	warden_close(cluster);
	cluster->data_is_stopped = true;
	if (cluster->snapshot_is_out)
		control_snapped(cluster);
	ferry_grpc_server_close(cluster->grpc);
	cluster_power_close(cluster);
	ferry_pacemaker_close(cluster->pacemaker);
	ferry_corosync_close(cluster->corosync);
	cluster->auth = ferry_auth_file_close(cluster->auth);
	cluster->state = ferry_statefile_close(cluster->state);
	if (cluster->loop) {
		ferry_timer_stop(cluster->loop, &cluster->stop_timer);
		ferry_timer_stop(cluster->loop, &cluster->quorum_timer);
		ferry_timer_stop(cluster->loop, &cluster->pulse_timer);
	}
	ferry_log_close();
	ferry_qb_loop_close(cluster->qb);
	free(cluster->mail_memory);
	free(cluster->snapshot);
	free(cluster);
	return NULL;
}

int ferry_cluster_withdraw(const struct ferry_settings *settings, struct ferry_error *reterr)
{
	const struct ferry_config *config = &settings->config;
	char path[FERRY_CONFIG_SOCKET_BYTES], name[FERRY_PACEMAKER_NAME_BYTES];
	struct ferry_error why;
	int r;

	if (settings->is_standalone || !config->is_published)
		return 0;
	control_path(settings, path);
	r = ferry_grpc_check_unserved(path, &why);
	if (r == -EADDRINUSE) /* It would not set again what it believes to be set. */
		return ferry_error_set(reterr, r, "an agent is running here: stop it first");
	if (r < 0)
		return ferry_error_set(reterr, r, "%s", why.message);
	for (uint32_t i = 0; i < config->pools_count && r != -ETIMEDOUT; i++) {
		struct ferry_error error;
		int one;

		cluster_pool_attribute(config, config->pools[i].name, name);
		one = ferry_pacemaker_withdraw(NULL, name, 0, &error);
		if (one < 0 && r == 0)
			*reterr = error;
		if (one < 0)
			r = one;
	}
	return r;
}
