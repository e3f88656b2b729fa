#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

#define CAST(type) ((const Ferry__V1__##type *)(const void *)message)
#define TITLES(table, ...)                                                                         \
	do {                                                                                       \
		static const char *const _titles[] = {__VA_ARGS__};                                \
		cli_table_init(table, _titles, FERRY_ARRAY_COUNT(_titles));                        \
	} while (0)

static const char *or_dash(const char *text)
{
	return text[0] ? text : "-";
}

/* The state in the design's words, in capitals as they are there. */
struct word {
	char text[32];
};

static struct word word_of(const ProtobufCEnumDescriptor *type, int value)
{
	struct word word;

	cli_enum_name(type, value, word.text);
	if (value == 0)
		(void)snprintf(word.text, sizeof(word.text), "-");
	for (char *c = word.text; *c; c++) {
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	}
	return word;
}

static struct word health_word(Ferry__V1__Health health)
{
	return word_of(&ferry__v1__health__descriptor, (int)health);
}

static struct word node_word(uint32_t node)
{
	struct word word;

	(void)snprintf(word.text, sizeof(word.text), node ? "%" PRIu32 : "-", node);
	return word;
}

static struct word size_word(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	size_t unit = 0;
	uint64_t rest = 0;
	struct word word;

	for (; bytes >= 1024 && unit + 1 < FERRY_ARRAY_COUNT(units); unit++) {
		rest = bytes % 1024;
		bytes /= 1024;
	}
	(void)snprintf(word.text, sizeof(word.text),
		       rest ? "%" PRIu64 ".%" PRIu64 " %s" : "%" PRIu64 "%.0" PRIu64 " %s", bytes,
		       rest * 10 / 1024, units[unit]);
	return word;
}

static struct word time_word(uint64_t time_ns)
{
	struct word word;

	if (time_ns == 0)
		(void)snprintf(word.text, sizeof(word.text), "-");
	else if (time_ns < FERRY_NS_PER_MS)
		(void)snprintf(word.text, sizeof(word.text), "%" PRIu64 " us", time_ns / 1000);
	else
		(void)snprintf(word.text, sizeof(word.text), "%" PRIu64 ".%" PRIu64 " ms",
			       time_ns / FERRY_NS_PER_MS,
			       time_ns % FERRY_NS_PER_MS * 10 / FERRY_NS_PER_MS);
	return word;
}

static struct word cache_word(const Ferry__V1__Cache *cache)
{
	uint64_t looked;
	struct word word;

	if (!cache || !cache->enabled) {
		(void)snprintf(word.text, sizeof(word.text), "off");
		return word;
	}
	looked = cache->hits + cache->misses;
	(void)snprintf(word.text, sizeof(word.text), "%.12s, %" PRIu64 "%% hits",
		       size_word(cache->used_bytes).text, looked ? cache->hits * 100 / looked : 0);
	return word;
}

/* A pool may have three reasons: its own, its path's, its cache's. */
static void add_pool(struct cli_table *table, const Ferry__V1__Pool *pool)
{
	const char *cache_reason = pool->cache ? pool->cache->reason : "";
	const char *texts[] = {pool->reason, pool->health_reason, cache_reason};
	static const char *const labels[] = {"", "path: ", "cache: "};
	char reason[CLI_CELL_BYTES] = "";
	size_t length = 0;

	cli_table_add(table, "%s", pool->name);
	cli_table_add(table, "%s",
		      word_of(&ferry__v1__pool_state__descriptor, (int)pool->state).text);
	cli_table_add(table, "%s", node_word(pool->owner).text);
	cli_table_add(table, "%" PRIu64, pool->epoch);
	cli_table_add(table, "%s", health_word(pool->health).text);
	cli_table_add(table, "%" PRIu64, pool->ios);
	cli_table_add(table, "%" PRIu64, pool->detours);
	cli_table_add(table, "%" PRIu64, pool->failures);
	cli_table_add(table, "%" PRIu32 "/%" PRIu64, pool->ghosts_alive, pool->ghosts_laid);
	cli_table_add(table, "%s", cache_word(pool->cache).text);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(texts); i++) {
		int written;

		if (!texts[i][0] || length >= sizeof(reason))
			continue;
		written = snprintf(reason + length, sizeof(reason) - length, "%s%s%s",
				   length ? "; " : "", labels[i], texts[i]);
		length += written > 0 ? (size_t)written : 0;
	}
	cli_table_add(table, "%s", or_dash(reason));
}

static void print_clean(const char *text)
{
	char clean[CLI_CELL_BYTES];

	cli_clean(clean, sizeof(clean), text);
	fputs(clean, stdout);
}

void cli_show_status(const ProtobufCMessage *message)
{
	const Ferry__V1__Status *status = CAST(Status);
	struct cli_table table;

	printf("node %" PRIu32 " (", status->node);
	print_clean(or_dash(status->node_name));
	printf("), incarnation %" PRIu64 ", ferry ", status->incarnation);
	print_clean(status->version);
	printf(", up %" PRIu64 " h %02" PRIu64 " min\n", status->uptime_seconds / 3600,
	       status->uptime_seconds / 60 % 60);
	if (status->cluster[0]) {
		printf("cluster ");
		print_clean(status->cluster);
		printf(": %s, %zu of %" PRIu32 " agents:",
		       status->quorate ? "quorate" : "NO QUORUM", status->n_members,
		       status->nodes_expected);
		for (size_t i = 0; i < status->n_members; i++)
			printf(" %" PRIu32, status->members[i]);
		printf("\n");
	} else {
		printf("standalone, no cluster\n");
	}
	printf("memory %slocked, %sknown to the kernel as on the I/O path\n",
	       status->memory_locked ? "" : "NOT ", status->io_flusher ? "" : "NOT ");
	if (status->reason[0]) {
		printf("attention: ");
		print_clean(status->reason);
		printf("\n");
	}
	printf("\n");
	TITLES(&table, "POOL", "STATE", "+OWNER", "+EPOCH", "PATH", "+IOS", "+DETOURS", "+FAILED",
	       "+GHOSTS", "CACHE", "REASON");
	for (size_t i = 0; i < status->n_pools; i++)
		add_pool(&table, status->pools[i]);
	cli_table_print(&table, "no pools");
}

void cli_show_volumes(const ProtobufCMessage *message)
{
	const Ferry__V1__VolumeList *list = CAST(VolumeList);
	struct cli_table table;

	TITLES(&table, "VOLUME", "POOL", "+SIZE", "+BLOCK", "STATE", "DEVICE", "URI", "+CLIENTS",
	       "REASON");
	for (size_t i = 0; i < list->n_volumes; i++) {
		const Ferry__V1__Volume *volume = list->volumes[i];

		cli_table_add(&table, "%s", volume->name);
		cli_table_add(&table, "%s", volume->pool);
		cli_table_add(&table, "%s", size_word(volume->size_bytes).text);
		cli_table_add(&table, "%" PRIu32, volume->block_bytes);
		cli_table_add(&table, "%s",
			      word_of(&ferry__v1__pool_state__descriptor, (int)volume->state).text);
		cli_table_add(&table, "%s", or_dash(volume->device));
		cli_table_add(&table, "%s", or_dash(volume->uri));
		cli_table_add(&table, "%" PRIu32, volume->clients);
		cli_table_add(&table, "%s", or_dash(volume->reason));
	}
	cli_table_print(&table, "no volumes");
}

void cli_show_paths(const ProtobufCMessage *message)
{
	const Ferry__V1__PathList *list = CAST(PathList);
	struct cli_table table;

	TITLES(&table, "POOL", "KIND", "+NODE", "BY", "TARGET", "LINK", "STATE", "+DONE", "+FAILED",
	       "+UNKNOWN", "+IN FLIGHT", "+GHOSTS", "+LATENCY", "REASON");
	for (size_t i = 0; i < list->n_paths; i++) {
		const Ferry__V1__Path *path = list->paths[i];

		cli_table_add(&table, "%s", path->pool);
		cli_table_add(&table, "%s",
			      path->kind == FERRY__V1__PATH_KIND__PATH_KIND_PEER ? "peer"
										 : "local");
		cli_table_add(&table, "%s", node_word(path->node).text);
		cli_table_add(&table, "%s", path->transport);
		cli_table_add(&table, "%s", path->target);
		cli_table_add(&table, "%s", path->up ? "up" : "DOWN");
		cli_table_add(&table, "%s", health_word(path->health).text);
		cli_table_add(&table, "%" PRIu64, path->ios);
		cli_table_add(&table, "%" PRIu64, path->failures);
		cli_table_add(&table, "%" PRIu64, path->unknown);
		cli_table_add(&table, "%" PRIu32, path->in_flight);
		cli_table_add(&table, "%" PRIu32 "/%" PRIu64, path->ghosts_alive,
			      path->ghosts_laid);
		cli_table_add(&table, "%s", time_word(path->latency_ns).text);
		cli_table_add(&table, "%s", or_dash(path->reason));
	}
	cli_table_print(&table, "no paths");
}

void cli_show_peers(const ProtobufCMessage *message)
{
	const Ferry__V1__PeerList *list = CAST(PeerList);
	struct cli_table table;

	TITLES(&table, "+NODE", "NAME", "MEMBER", "LINK", "BY", "ADDRESS", "+RTT", "PATH",
	       "+CARRIED FOR", "+CARRIED BY", "REASON");
	for (size_t i = 0; i < list->n_peers; i++) {
		const Ferry__V1__Peer *peer = list->peers[i];

		cli_table_add(&table, "%s", node_word(peer->node).text);
		cli_table_add(&table, "%s", or_dash(peer->name));
		cli_table_add(&table, "%s", peer->member ? "yes" : "NO");
		cli_table_add(&table, "%s",
			      word_of(&ferry__v1__link_state__descriptor, (int)peer->link).text);
		if (peer->not_rdma[0])
			cli_table_add(&table, "%s (%s)", or_dash(peer->transport), peer->not_rdma);
		else
			cli_table_add(&table, "%s", or_dash(peer->transport));
		cli_table_add(&table, "%s", or_dash(peer->address));
		cli_table_add(&table, "%s", time_word(peer->rtt_ns).text);
		cli_table_add(&table, "%s", health_word(peer->health).text);
		cli_table_add(&table, "%" PRIu64, peer->carried_for_it);
		cli_table_add(&table, "%" PRIu64, peer->carried_by_it);
		cli_table_add(&table, "%s", or_dash(peer->reason));
	}
	cli_table_print(&table, "no peers");
}

void cli_show_luns(const ProtobufCMessage *message)
{
	const Ferry__V1__LunList *list = CAST(LunList);
	struct cli_table table;

	TITLES(&table, "POOL", "LUN", "WWID", "+SIZE", "+BLOCK", "FLUSH", "CLASS", "LAYING",
	       "STATE", "REASON");
	for (size_t i = 0; i < list->n_luns; i++) {
		const Ferry__V1__Lun *lun = list->luns[i];

		cli_table_add(&table, "%s", lun->pool);
		cli_table_add(&table, "%s", or_dash(lun->name));
		cli_table_add(&table, "%s", or_dash(lun->wwid));
		cli_table_add(&table, "%s", size_word(lun->size_bytes).text);
		cli_table_add(&table, "%" PRIu32, lun->block_bytes);
		cli_table_add(&table, "%s", lun->flush_scope);
		cli_table_add(&table, "%s", or_dash(lun->lun_class));
		cli_table_add(&table, "%s", or_dash(lun->laying));
		cli_table_add(&table, "%s", lun->open ? "open" : "NOT OPEN");
		cli_table_add(&table, "%s", or_dash(lun->reason));
	}
	cli_table_print(&table, "no luns");
}

void cli_show_attach(const ProtobufCMessage *message)
{
	const Ferry__V1__AttachVolumeReply *reply = CAST(AttachVolumeReply);
	char clean[CLI_CELL_BYTES];

	print_clean(reply->device); /* Alone, for scripts. */
	printf("\n");
	cli_clean(clean, sizeof(clean), reply->reason);
	if (reply->front_end[0])
		fprintf(stderr, "ferry: by %s%s%s%s\n", reply->front_end, clean[0] ? " (" : "",
			clean, clean[0] ? ")" : "");
}

void cli_show_acquire(const ProtobufCMessage *message)
{
	printf("acquired, epoch %" PRIu64 "\n", CAST(AcquirePoolReply)->epoch);
}

void cli_show_move(const ProtobufCMessage *message)
{
	const Ferry__V1__MovePoolReply *reply = CAST(MovePoolReply);

	printf("%s, epoch %" PRIu64 "\n", reply->was_there ? "it is there already" : "moved",
	       reply->epoch);
}

static void add_key(struct cli_table *table, const Ferry__V1__LunKeys *lun, size_t index)
{
	const Ferry__V1__Key *key = lun->keys[index];
	size_t count = cli_key_count(&lun->base, index);

	if (count == 0)
		return;
	cli_table_add(table, "%s", lun->pool);
	if (count > 1)
		cli_table_add(table, "%s x%zu", key->key, count);
	else
		cli_table_add(table, "%s", key->key);
	cli_table_add(table, "%s", node_word(key->node).text);
	cli_table_add(table, "%s", or_dash(key->node_name));
	cli_table_add(table, key->node ? "%" PRIu64 : "-", key->incarnation);
	cli_table_add(table, "%s",
		      word_of(&ferry__v1__key_state__descriptor, (int)key->state).text);
	cli_table_add(table, "%s", key->holder ? "yes" : "-");
	cli_table_add(table, "%s", key->stale ? "STALE" : "-");
}

/* Where the table has no row, why. */
static void say_no_keys(const Ferry__V1__LunKeys *lun)
{
	if (lun->readable && lun->n_keys > 0)
		return;
	printf("pool ");
	print_clean(lun->pool);
	if (lun->readable) {
		printf(": no registrations\n");
		return;
	}
	printf(": cannot be read: ");
	print_clean(lun->reason);
	printf("\n");
}

void cli_show_keys(const ProtobufCMessage *message)
{
	const Ferry__V1__KeyList *list = CAST(KeyList);
	struct cli_table table;

	TITLES(&table, "POOL", "KEY", "+NODE", "NAME", "+INCARNATION", "AGENT", "HOLDER", "STALE");
	for (size_t i = 0; i < list->n_luns; i++)
		for (size_t j = 0; j < list->luns[i]->n_keys; j++)
			add_key(&table, list->luns[i], j);
	cli_table_print(&table, list->n_luns > 0 ? NULL : "no luns");
	for (size_t i = 0; i < list->n_luns; i++)
		say_no_keys(list->luns[i]);
}

void cli_show_fence(const ProtobufCMessage *message)
{
	const Ferry__V1__FenceReport *report = CAST(FenceReport);
	struct cli_table table;

	printf("node %" PRIu32 " (", report->node);
	print_clean(or_dash(report->node_name));
	printf("): %s\n\n", report->fenced ? "fenced" : "NOT fenced");
	TITLES(&table, "POOL", "FENCED", "+OWNER", "+EPOCH", "REASON");
	for (size_t i = 0; i < report->n_pools; i++) {
		const Ferry__V1__FencedPool *pool = report->pools[i];

		cli_table_add(&table, "%s", pool->pool);
		cli_table_add(&table, "%s", pool->fenced ? "yes" : pool->known ? "NO" : "UNKNOWN");
		cli_table_add(&table, "%s", node_word(pool->owner).text);
		cli_table_add(&table, "%" PRIu64, pool->epoch);
		cli_table_add(&table, "%s", or_dash(pool->reason));
	}
	cli_table_print(&table, "no pools");
}

void cli_show_version(const ProtobufCMessage *message)
{
	const Ferry__V1__Version *version = CAST(Version);

	printf("ferry " FERRY_VERSION "\nagent ");
	print_clean(version->version);
	printf(", wire version %" PRIu32 ", API ", version->wire_version);
	print_clean(version->api);
	printf("\n");
}

void cli_show_nothing(const ProtobufCMessage *message)
{
	(void)message;
}

/* What the event counts, or the key that it is about. */
static struct word value_word(uint64_t value)
{
	struct word word;

	if (value == 0)
		(void)snprintf(word.text, sizeof(word.text), "-");
	else if (value >> 48 != 0) /* No counter gets there. */
		(void)snprintf(word.text, sizeof(word.text), "0x%016" PRIx64, value);
	else
		(void)snprintf(word.text, sizeof(word.text), "%" PRIu64, value);
	return word;
}

void cli_show_event_titles(void)
{
	printf("%6s %-23s %-4s %-7s %-13s %-10s %18s %s\n", "NUMBER", "TIME", "NODE", "LEVEL",
	       "KIND", "POOL", "VALUE", "CHANGE  CAUSE");
}

void cli_show_event(const ProtobufCMessage *message)
{
	const Ferry__V1__Event *event = CAST(Event);
	time_t seconds = (time_t)(event->time_wall_ns / FERRY_NS_PER_S);
	char when[32] = "-";
	char line[1024];
	char clean[1024];
	char change[128] = "-";
	struct tm parts;
	struct word severity;

	if (localtime_r(&seconds, &parts))
		(void)strftime(when, sizeof(when), "%F %T", &parts);
	cli_enum_name(&ferry__v1__severity__descriptor, (int)event->severity, severity.text);
	if (event->missed)
		printf("(%" PRIu64 " events before this are no longer kept)\n", event->missed);
	if (strcmp(event->from, event->to) != 0)
		(void)snprintf(change, sizeof(change), "%.60s→%.60s", event->from, event->to);
	(void)snprintf(line, sizeof(line),
		       "%6" PRIu64 " %s.%03u n%-3" PRIu32 " %-7s %-13s %-10s %18s %s  %s",
		       event->sequence, when,
		       (unsigned)(event->time_wall_ns % FERRY_NS_PER_S / FERRY_NS_PER_MS),
		       event->node, severity.text, event->kind, or_dash(event->pool),
		       value_word(event->value).text, change, event->cause);
	cli_clean(clean, sizeof(clean), line);
	printf("%s\n", clean);
}
