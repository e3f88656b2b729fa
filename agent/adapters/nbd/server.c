/* server.c - listening, the exports, and the end of it all. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/adapters/nbd/connection.h"
#include "agent/adapters/nbd/listener.h"
#include "agent/adapters/nbd/nbd.h"

enum {
	ACCEPTS_PER_TURN_MAX = 16,
	ACCEPT_PAUSE_NS = 100 * 1000 * 1000,
	PREFERRED_MODE = 0600,
	EXPORT_DEFAULT_NONE = FERRY_NBD_EXPORTS_MAX,
	UNIX_SEND_BYTES = 1024 * 1024,
};

/* All of these are improvements only: failures are ignored. */
static void connection_options(int fd)
{
	const int on = 1;
	const int send_bytes = UNIX_SEND_BYTES;
	int domain = 0;
	socklen_t domain_bytes = sizeof(domain);

	(void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes);
	if (domain != AF_UNIX) { /* TCP: its buffers grow by themselves. */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
		return;
	}
	/*
	 * With the usual 208 KiB we and the client wake each other by turns for every large reply.
	 * The kernel takes twice what is asked for, for what it adds; FORCE needs CAP_NET_ADMIN.
	 */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof(send_bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
}

/* @export: FERRY_NBD_EXPORTS_MAX: the client will say which. Negative: @fd was closed. */
static int client_take(struct ferry_nbd_server *server, int fd, uint32_t export)
{
	struct ferry_list *link = ferry_list_pop(&server->free);
	struct ferry_nbd_connection *connection;
	int r;

	ferry_assert(fd >= 0);
	if (!link) {
		/* A closed door is clearer than a queue that may never move. */
		server->counters.connections_refused++;
		(void)close(fd);
		return -EMFILE;
	}
	connection = ferry_list_entry(link, struct ferry_nbd_connection, link);
	connection_options(fd);
	r = export < FERRY_NBD_EXPORTS_MAX ? ferry_nbd_connection_adopt(connection, fd, export)
					   : ferry_nbd_connection_open(connection, fd);
	if (r < 0) {
		server->counters.connections_refused++;
		ferry_list_prepend(&server->free, link);
		(void)close(fd);
		return r;
	}
	ferry_list_append(&server->connections, link);
	server->counters.connections++;
	server->counters.connections_accepted++;
	return 0;
}

static void listener_ready(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_nbd_listener *listener =
		FERRY_CONTAINER_OF(watch, struct ferry_nbd_listener, watch);
	struct ferry_nbd_server *server = listener->server;

	ferry_assert(ready != 0);
	for (uint32_t i = 0; i < ACCEPTS_PER_TURN_MAX; i++) {
		const int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			(void)client_take(server, fd, FERRY_NBD_EXPORTS_MAX); /* Counted. */
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* It stays ready: look away, or the loop would spin. */
			server->counters.connections_refused++;
			server->loop->ops->watch_set(server->loop, watch, 0);
			ferry_timer_start_in(server->loop, &listener->pause, ACCEPT_PAUSE_NS);
			return;
		}
		/* Else the client was gone before it was here: the next one. */
	}
}

static void listener_resume(struct ferry_timer *timer)
{
	struct ferry_nbd_listener *listener =
		FERRY_CONTAINER_OF(timer, struct ferry_nbd_listener, pause);
	struct ferry_loop *loop = listener->server->loop;

	ferry_assert(listener->watch.fd >= 0);
	loop->ops->watch_set(loop, &listener->watch, FERRY_WATCH_READ);
}

static void listeners_close(struct ferry_nbd_server *server)
{
	for (uint32_t i = 0; i < server->listeners_count; i++) {
		struct ferry_nbd_listener *listener = &server->listeners[i];

		ferry_timer_stop(server->loop, &listener->pause);
		server->loop->ops->watch_stop(server->loop, &listener->watch);
		ferry_nbd_listener_close(listener);
	}
	server->listeners_count = 0;
}

static void parked_kick(struct ferry_nbd_server *server)
{
	ferry_timer_stop(server->loop, &server->retry);
	/* They unlink themselves when they try, in their tasks; those run in this order. */
	ferry_list_foreach (link, &server->parked)
		ferry_nbd_connection_kick(
			ferry_list_entry(link, struct ferry_nbd_connection, parked_link));
}

static void kick_task(struct ferry_task *task)
{
	parked_kick(FERRY_CONTAINER_OF(task, struct ferry_nbd_server, kick));
}

static void retry_timer(struct ferry_timer *timer)
{
	parked_kick(FERRY_CONTAINER_OF(timer, struct ferry_nbd_server, retry));
}

/* Exports. */

static uint16_t shape_flags(const struct ferry_nbd_export *export)
{
	uint32_t flags = FERRY_NBD_HAS_FLAGS | FERRY_NBD_SEND_FLUSH | FERRY_NBD_SEND_FUA |
			 FERRY_NBD_SEND_WRITE_ZEROES | FERRY_NBD_CAN_MULTI_CONN;

	/* A volume has one order of writes and one FLUSH, whatever connection they come by. */
	if (export->block->can_discard)
		flags |= FERRY_NBD_SEND_TRIM;
	if (export->is_read_only || export->block->is_read_only) {
		flags |= FERRY_NBD_READ_ONLY;
		flags &= ~(uint32_t)(FERRY_NBD_SEND_TRIM | FERRY_NBD_SEND_WRITE_ZEROES);
	}
	return (uint16_t)flags;
}

static int export_check(const struct ferry_nbd_server *server,
			const struct ferry_nbd_export *export, struct ferry_error *reterr)
{
	const struct ferry_block *block = export->block;

	if (!export->name || export->name[0] == '\0' ||
	    strlen(export->name) > FERRY_NBD_NAME_BYTES_MAX)
		return ferry_error_set(reterr, -EINVAL, "an export's name must have 1 to %d bytes",
				       FERRY_NBD_NAME_BYTES_MAX);
	if (export->description && strlen(export->description) > FERRY_NBD_NAME_BYTES_MAX)
		return ferry_error_set(reterr, -EINVAL,
				       "export %s: its description is longer than %d bytes",
				       export->name, FERRY_NBD_NAME_BYTES_MAX);
	if (server->is_stopping)
		return ferry_error_set(reterr, -ESHUTDOWN, "the NBD server is stopping");
	ferry_assert(block && block->ops && block->arena);
	ferry_assert(block->loop == server->loop);
	ferry_assert(block->block_bytes >= 512 && block->block_bytes <= 64 * 1024);
	ferry_assert((block->block_bytes & (block->block_bytes - 1)) == 0);
	ferry_assert(block->size_blocks <= UINT64_MAX / block->block_bytes);
	return 0;
}

static void export_removed_task(struct ferry_task *task)
{
	struct ferry_nbd_export_slot *export =
		FERRY_CONTAINER_OF(task, struct ferry_nbd_export_slot, removed);
	void (*on_removed)(void *) = export->on_removed;
	void *context = export->context;

	ferry_assert(export->is_removing && export->connections_count == 0);
	ferry_timer_stop(export->server->loop, &export->deadline);
	export->is_removing = false;
	export->is_used = false;
	on_removed(context);
}

/* The deadline of a removal: the connections close; their last I/O is still waited for. */
static void export_deadline(struct ferry_timer *timer)
{
	struct ferry_nbd_export_slot *export =
		FERRY_CONTAINER_OF(timer, struct ferry_nbd_export_slot, deadline);

	ferry_list_foreach_safe (link, &export->server->connections) {
		struct ferry_nbd_connection *connection =
			ferry_list_entry(link, struct ferry_nbd_connection, link);

		if (connection->shape == &export->shape)
			ferry_nbd_connection_kill(connection);
	}
}

int ferry_nbd_server_export_add(struct ferry_nbd_server *server,
				const struct ferry_nbd_export *export, struct ferry_error *reterr)
{
	struct ferry_nbd_export_slot *slot = NULL;
	uint32_t index = 0;
	int r;

	ferry_assert(server && export);
	FERRY_ASSERT_ON_LOOP(server->loop);
	r = export_check(server, export, reterr);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < FERRY_NBD_EXPORTS_MAX; i++) {
		if (server->exports[i].is_used &&
		    strcmp(server->exports[i].name, export->name) == 0)
			return ferry_error_set(reterr, -EEXIST, "export %s exists already",
					       export->name);
		if (!server->exports[i].is_used && !slot) {
			slot = &server->exports[i];
			index = i;
		}
	}
	if (!slot)
		return ferry_error_set(reterr, -ENOSPC, "there are %d exports already",
				       FERRY_NBD_EXPORTS_MAX);
	*slot = (struct ferry_nbd_export_slot){.block = export->block,
					       .is_used = true,
					       .server = server,
					       .deadline.run = export_deadline,
					       .removed.run = export_removed_task};
	(void)snprintf(slot->name, sizeof(slot->name), "%s", export->name);
	(void)snprintf(slot->description, sizeof(slot->description), "%s",
		       export->description ? export->description : "");
	slot->shape = (struct ferry_nbd_shape){.name = slot->name,
					       .description = slot->description,
					       .size_bytes = export->block->size_blocks *
							     export->block->block_bytes,
					       .block_bytes = export->block->block_bytes,
					       .flags = shape_flags(export)};
	server->shapes[index] = slot->shape;
	if (export->is_default)
		server->export_default = index;
	return 0;
}

int ferry_nbd_server_export_remove(struct ferry_nbd_server *server, const char *name,
				   void (*on_removed)(void *context), void *context)
{
	struct ferry_nbd_export_slot *export = NULL;

	ferry_assert(server && name && on_removed);
	FERRY_ASSERT_ON_LOOP(server->loop);
	for (uint32_t i = 0; i < FERRY_NBD_EXPORTS_MAX; i++) {
		struct ferry_nbd_export_slot *slot = &server->exports[i];

		if (!slot->is_used || slot->is_removing || strcmp(slot->name, name) != 0)
			continue;
		export = slot;
		server->shapes[i].name = NULL; /* No one gets it any more. */
		if (server->export_default == i)
			server->export_default = EXPORT_DEFAULT_NONE;
	}
	if (!export)
		return -ENOENT;
	export->is_removing = true;
	export->on_removed = on_removed;
	export->context = context;
	if (export->connections_count == 0) {
		ferry_task_post(server->loop, &export->removed);
		return 0;
	}
	ferry_timer_start_in(server->loop, &export->deadline, server->config.stop_ns_max);
	ferry_list_foreach_safe (link, &server->connections) {
		struct ferry_nbd_connection *connection =
			ferry_list_entry(link, struct ferry_nbd_connection, link);

		if (connection->shape == &export->shape)
			ferry_nbd_connection_drain(connection);
	}
	return 0;
}

int ferry_nbd_server_adopt(struct ferry_nbd_server *server, const char *name, int fd)
{
	ferry_assert(server && name && fd >= 0);
	FERRY_ASSERT_ON_LOOP(server->loop);
	for (uint32_t i = 0; i < FERRY_NBD_EXPORTS_MAX && !server->is_stopping; i++) {
		const struct ferry_nbd_export_slot *slot = &server->exports[i];

		if (slot->is_used && !slot->is_removing && strcmp(slot->name, name) == 0)
			return client_take(server, fd, i);
	}
	(void)close(fd);
	return -ENOENT;
}

uint32_t ferry_nbd_server_export_clients(const struct ferry_nbd_server *server, const char *name)
{
	ferry_assert(server && name);
	FERRY_ASSERT_ON_LOOP(server->loop);
	for (uint32_t i = 0; i < FERRY_NBD_EXPORTS_MAX; i++) {
		const struct ferry_nbd_export_slot *slot = &server->exports[i];

		if (slot->is_used && !slot->is_removing && strcmp(slot->name, name) == 0)
			return slot->connections_count;
	}
	return 0;
}

/* The end. */

static void stopped_task(struct ferry_task *task)
{
	struct ferry_nbd_server *server =
		FERRY_CONTAINER_OF(task, struct ferry_nbd_server, stopped);

	ferry_assert(server->is_stopping);
	ferry_assert(ferry_list_is_empty(&server->connections));
	ferry_timer_stop(server->loop, &server->stop_deadline);
	ferry_timer_stop(server->loop, &server->retry);
	ferry_task_cancel(server->loop, &server->kick);
	server->on_stopped(server->stop_context);
}

void ferry_nbd_server_connection_freed(struct ferry_nbd_connection *connection)
{
	struct ferry_nbd_server *server = connection->server;

	ferry_assert(connection->phase == FERRY_NBD_PHASE_FREE);
	if (connection->shape) {
		struct ferry_nbd_export_slot *export =
			&server->exports[connection->negotiation.export];

		ferry_assert(&export->shape == connection->shape);
		ferry_assert(export->connections_count > 0);
		connection->shape = NULL;
		if (--export->connections_count == 0 && export->is_removing)
			ferry_task_post(server->loop, &export->removed);
	}
	ferry_list_remove(&connection->link);
	ferry_list_prepend(&server->free, &connection->link);
	ferry_assert(server->counters.connections > 0);
	server->counters.connections--;
	if (server->is_stopping && ferry_list_is_empty(&server->connections))
		ferry_task_post(server->loop, &server->stopped);
}

static void stop_deadline(struct ferry_timer *timer)
{
	struct ferry_nbd_server *server =
		FERRY_CONTAINER_OF(timer, struct ferry_nbd_server, stop_deadline);

	ferry_list_foreach_safe (link, &server->connections)
		ferry_nbd_connection_kill(
			ferry_list_entry(link, struct ferry_nbd_connection, link));
}

void ferry_nbd_server_stop(struct ferry_nbd_server *server, void (*on_stopped)(void *context),
			   void *context)
{
	ferry_assert(server && on_stopped);
	ferry_assert(!server->is_stopping);
	FERRY_ASSERT_ON_LOOP(server->loop);
	server->is_stopping = true;
	server->on_stopped = on_stopped;
	server->stop_context = context;
	listeners_close(server);
	if (ferry_list_is_empty(&server->connections)) {
		ferry_task_post(server->loop, &server->stopped);
		return;
	}
	ferry_timer_start_in(server->loop, &server->stop_deadline, server->config.stop_ns_max);
	ferry_list_foreach_safe (link, &server->connections)
		ferry_nbd_connection_drain(
			ferry_list_entry(link, struct ferry_nbd_connection, link));
}

/* The beginning. */

static int config_check(const struct ferry_nbd_config *config, struct ferry_error *reterr)
{
	ferry_assert(config->loop && config->loop->ops->watch_start);
	if (config->listen_count == 0 || config->listen_count > FERRY_NBD_LISTENERS_MAX)
		return ferry_error_set(reterr, -EINVAL, "NBD needs 1 to %d addresses to listen on",
				       FERRY_NBD_LISTENERS_MAX);
	if (config->connections_max > FERRY_NBD_CONNECTIONS_MAX)
		return ferry_error_set(reterr, -EINVAL, "at most %d NBD connections",
				       FERRY_NBD_CONNECTIONS_MAX);
	if (config->socket_mode & ~(uint32_t)0777)
		return ferry_error_set(reterr, -EINVAL, "NBD socket mode %04o is not a mode",
				       config->socket_mode);
	return 0;
}

static void config_complete(struct ferry_nbd_config *config)
{
	if (config->connections_max == 0)
		config->connections_max = FERRY_NBD_CONNECTIONS_DEFAULT;
	if (config->socket_mode == 0)
		config->socket_mode = PREFERRED_MODE;
	if (config->handshake_ns_max == 0)
		config->handshake_ns_max = 10 * FERRY_NS_PER_S;
	if (config->silence_ns_max == 0)
		config->silence_ns_max = 60 * FERRY_NS_PER_S;
	if (config->stop_ns_max == 0)
		config->stop_ns_max = 5 * FERRY_NS_PER_S;
}

static int listeners_open(struct ferry_nbd_server *server, const struct ferry_nbd_config *config,
			  struct ferry_error *reterr)
{
	int r;

	for (uint32_t i = 0; i < config->listen_count; i++) {
		struct ferry_nbd_listener *listener = &server->listeners[i];

		r = ferry_nbd_listener_open(listener, config->listen[i], &server->config, reterr);
		if (r < 0)
			return r;
		server->listeners_count++;
		listener->server = server;
		listener->watch.run = listener_ready;
		listener->pause.run = listener_resume;
		r = server->loop->ops->watch_start(server->loop, &listener->watch,
						   FERRY_WATCH_READ);
		if (r < 0)
			return ferry_error_set(reterr, r, "%s: cannot watch: %s", config->listen[i],
					       strerror(-r));
	}
	return 0;
}

static struct ferry_nbd_server *server_new(const struct ferry_nbd_config *config)
{
	struct ferry_nbd_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->config = *config;
	memset(server->config.listen, 0, sizeof(server->config.listen));
	config_complete(&server->config);
	server->loop = config->loop;
	server->export_default = EXPORT_DEFAULT_NONE;
	server->retry.run = retry_timer;
	server->kick.run = kick_task;
	server->stop_deadline.run = stop_deadline;
	server->stopped.run = stopped_task;
	ferry_list_init(&server->free);
	ferry_list_init(&server->connections);
	ferry_list_init(&server->parked);
	server->scratch = malloc(FERRY_NBD_SCRATCH_BYTES);
	server->all = calloc(server->config.connections_max, sizeof(server->all[0]));
	if (!server->scratch || !server->all)
		return ferry_nbd_server_free(server);
	for (uint32_t i = 0; i < server->config.connections_max; i++) {
		ferry_nbd_connection_init(&server->all[i], server);
		ferry_list_append(&server->free, &server->all[i].link);
	}
	return server;
}

int ferry_nbd_server_start(const struct ferry_nbd_config *config, struct ferry_nbd_server **ret,
			   struct ferry_error *reterr)
{
	struct ferry_nbd_server *server;
	int r;

	ferry_assert(config && ret);
	FERRY_ASSERT_ON_LOOP(config->loop);
	r = config_check(config, reterr);
	if (r < 0)
		return r;
	server = server_new(config);
	if (!server)
		return ferry_error_set(reterr, -ENOMEM, "no memory for %u NBD connections",
				       config->connections_max);
	r = listeners_open(server, config, reterr);
	if (r < 0) {
		(void)ferry_nbd_server_free(server); /* Is NULL. */
		return r;
	}
	*ret = server;
	return 0;
}

struct ferry_nbd_server *ferry_nbd_server_free(struct ferry_nbd_server *server)
{
	if (!server)
		return NULL;
	ferry_assert(ferry_list_is_empty(&server->connections));
	listeners_close(server);
	free(server->all);
	free(server->scratch);
	free(server);
	return NULL;
}

uint16_t ferry_nbd_server_port(const struct ferry_nbd_server *server, uint32_t index)
{
	ferry_assert(server);
	ferry_assert(index < server->listeners_count);
	return server->listeners[index].port;
}

const struct ferry_nbd_counters *ferry_nbd_server_counters(const struct ferry_nbd_server *server)
{
	ferry_assert(server);
	return &server->counters;
}
