#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>

#include "agent/adapters/inifile/internal.h"
#include "agent/base/arena.h"

static bool is_in(char c, const char *also)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr(also, c));
}

bool is_name(const char *text, size_t length)
{
	if (length == 0 || length >= FERRY_CONFIG_NAME_BYTES)
		return false;
	if (text[0] == '-') /* To `ferry` it would be an option. */
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_in(text[i], "-") || (text[i] >= 'A' && text[i] <= 'Z'))
			return false;
	return true;
}

/* Digits only, all of @length. Bounded by UINT64_MAX. */
static bool number_read(const char *text, size_t length, uint64_t *ret)
{
	uint64_t number = 0;

	if (length == 0 || length > 20)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
		    __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
			return false;
	}
	*ret = number;
	return true;
}

/*
 * An absolute path, with double slashes and "/./" taken out so that one place has one name; ".."
 * stays out, since what it means depends on links.
 */
static int path_copy(struct parser *parser, const char *name, const char *value, char *field,
		     size_t size_bytes)
{
	size_t length = 0;

	ferry_assert(size_bytes > 1);
	if (value[0] != '/')
		return fail_at(parser, parser->line, "%s must be an absolute path, not %.100s",
			       name, value);
	for (const char *part = value; *part != '\0';) {
		size_t part_length;

		part += strspn(part, "/");
		part_length = strcspn(part, "/");
		if (part_length == 2 && memcmp(part, "..", 2) == 0)
			return fail_at(parser, parser->line, "%s must not have .. in it", name);
		if (part_length > 0 && !(part_length == 1 && part[0] == '.')) {
			if (length + 1 + part_length >= size_bytes)
				return fail_at(parser, parser->line,
					       "%s is too long; at most %zu bytes", name,
					       size_bytes - 1);
			field[length++] = '/';
			memcpy(field + length, part, part_length);
			length += part_length;
		}
		part += part_length;
	}
	if (length == 0)
		return fail_at(parser, parser->line, "%s must not be the root directory", name);
	field[length] = '\0';
	return 0;
}

int parse_path(struct parser *parser, const struct key *key, const char *value, void *field)
{
	return path_copy(parser, key->name, value, field, key->limit);
}

/* Letters, digits and some marks; for names that other programs gave. */
int parse_word(struct parser *parser, const struct key *key, const char *value, void *field)
{
	size_t length = strlen(value);

	ferry_assert(key->limit > 1);
	if (length >= key->limit)
		return fail_at(parser, parser->line, "%s is too long; at most %llu bytes",
			       key->name, (unsigned long long)key->limit - 1);
	for (size_t i = 0; i < length; i++)
		if (!is_in(value[i], "-_.:@+#"))
			return fail_at(parser, parser->line,
				       "%s may have letters, digits and -_.:@+# only", key->name);
	memcpy(field, value, length + 1);
	return 0;
}

/* RFC 7143, 4.2.7: iqn., eui. or naa.; compared in lower case. */
static bool iqn_copy(const char *value, size_t length, char *field)
{
	if (length < 5 || length >= FERRY_CONFIG_IQN_BYTES)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!is_in(value[i], "-.:"))
			return false;
		field[i] = (char)tolower((unsigned char)value[i]);
	}
	field[length] = '\0';
	return strncmp(field, "iqn.", 4) == 0 || strncmp(field, "eui.", 4) == 0 ||
	       strncmp(field, "naa.", 4) == 0;
}

int parse_iqn(struct parser *parser, const struct key *key, const char *value, void *field)
{
	if (!iqn_copy(value, strlen(value), field))
		return fail_at(parser, parser->line,
			       "%s must be an iSCSI name, such as iqn.2026-01.org.example:node1",
			       key->name);
	return 0;
}

int parse_bool(struct parser *parser, const struct key *key, const char *value, void *field)
{
	bool *ret = field;

	if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return fail_at(parser, parser->line, "%s must be yes or no, not %.40s", key->name,
			       value);
	*ret = value[0] == 'y';
	return 0;
}

static int number_in_bounds(struct parser *parser, const struct key *key, const char *value,
			    uint64_t *ret)
{
	if (!number_read(value, strlen(value), ret) || *ret < key->minimum || *ret > key->limit)
		return fail_at(parser, parser->line, "%s must be a number from %llu to %llu",
			       key->name, (unsigned long long)key->minimum,
			       (unsigned long long)key->limit);
	return 0;
}

int parse_u32(struct parser *parser, const struct key *key, const char *value, void *field)
{
	uint32_t *ret = field;
	uint64_t number;
	int r = number_in_bounds(parser, key, value, &number);

	ferry_assert(key->limit <= UINT32_MAX);
	if (r == 0)
		*ret = (uint32_t)number;
	return r;
}

int parse_port(struct parser *parser, const struct key *key, const char *value, void *field)
{
	uint16_t *ret = field;
	uint64_t number;
	int r = number_in_bounds(parser, key, value, &number);

	ferry_assert(key->limit <= UINT16_MAX);
	if (r == 0)
		*ret = (uint16_t)number;
	return r;
}

struct unit {
	const char *name;
	uint64_t factor;
};

/* A number and one of @units. False: not so, or too large for 64 bits. */
static bool quantity_read(const char *value, const struct unit *units, size_t units_count,
			  uint64_t *ret)
{
	size_t digits = strspn(value, "0123456789");
	uint64_t number;

	if (!number_read(value, digits, &number))
		return false;
	for (size_t i = 0; i < units_count; i++)
		if (strcmp(value + digits, units[i].name) == 0)
			return !__builtin_mul_overflow(number, units[i].factor, ret);
	return false;
}

int parse_duration(struct parser *parser, const struct key *key, const char *value, void *field)
{
	static const struct unit units[] = {
		{"ms", FERRY_NS_PER_MS}, {"s", FERRY_NS_PER_S}, {"m", 60 * FERRY_NS_PER_S}};
	uint64_t *ret = field;
	uint64_t ns;

	if (!quantity_read(value, units, FERRY_ARRAY_COUNT(units), &ns))
		return fail_at(parser, parser->line,
			       "%s must be a whole number with its unit, such as 500ms, 5s or 2m, "
			       "not %.40s",
			       key->name, value);
	if (ns < key->minimum || ns > key->limit)
		return fail_at(parser, parser->line, "%s must be from %llums to %llus", key->name,
			       (unsigned long long)(key->minimum / FERRY_NS_PER_MS),
			       (unsigned long long)(key->limit / FERRY_NS_PER_S));
	*ret = ns;
	return 0;
}

int parse_size(struct parser *parser, const struct key *key, const char *value, void *field)
{
	static const struct unit units[] = {
		{"K", FERRY_KIB}, {"M", FERRY_MIB}, {"G", 1024 * FERRY_MIB}};
	uint64_t *ret = field;
	uint64_t bytes = 0;

	if (strcmp(value, "0") != 0 &&
	    !quantity_read(value, units, FERRY_ARRAY_COUNT(units), &bytes))
		return fail_at(parser, parser->line,
			       "%s must be a whole number with its unit, such as 512K, 64M or 1G, "
			       "not %.40s",
			       key->name, value);
	if (bytes < key->minimum || bytes > key->limit)
		return fail_at(parser, parser->line, "%s must be from %lluM to %lluM", key->name,
			       (unsigned long long)(key->minimum / FERRY_MIB),
			       (unsigned long long)(key->limit / FERRY_MIB));
	if (bytes % FERRY_CHUNK_BYTES != 0)
		return fail_at(parser, parser->line, "%s must be a multiple of %dK", key->name,
			       FERRY_CHUNK_BYTES / 1024);
	*ret = bytes;
	return 0;
}

int parse_block_bytes(struct parser *parser, const struct key *key, const char *value, void *field)
{
	uint32_t *ret = field;

	if (strcmp(value, "512") != 0 && strcmp(value, "4096") != 0)
		return fail_at(parser, parser->line, "%s must be 512 or 4096", key->name);
	*ret = value[0] == '5' ? 512 : 4096;
	return 0;
}

int ferry_inifile_log_level(const char *value, enum ferry_severity *ret, struct ferry_error *reterr)
{
	static const char *const names[] = {"debug", "info", "notice", "warning", "error"};

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++)
		if (strcmp(value, names[i]) == 0) {
			*ret = (enum ferry_severity)(FERRY_SEVERITY_DEBUG + i);
			return 0;
		}
	return ferry_error_set(reterr, -EINVAL,
			       "must be one of debug, info, notice, warning, error");
}

int parse_log_level(struct parser *parser, const struct key *key, const char *value, void *field)
{
	struct ferry_error why;

	if (ferry_inifile_log_level(value, field, &why) == 0)
		return 0;
	return fail_at(parser, parser->line, "%s %s", key->name, why.message);
}

int parse_flush_scope(struct parser *parser, const struct key *key, const char *value, void *field)
{
	enum ferry_flush_scope *ret = field;

	if (strcmp(value, "lun") != 0 && strcmp(value, "path") != 0)
		return fail_at(parser, parser->line, "%s must be lun or path", key->name);
	*ret = value[0] == 'l' ? FERRY_FLUSH_SCOPE_LUN : FERRY_FLUSH_SCOPE_PATH;
	return 0;
}

int parse_decision(struct parser *parser, const struct key *key, const char *value, void *field)
{
	enum ferry_config_decision *ret = field;

	if (strcmp(value, "count") != 0 && strcmp(value, "off") != 0)
		return fail_at(parser, parser->line, "%s must be count or off", key->name);
	*ret = value[0] == 'c' ? FERRY_CONFIG_DECISION_COUNT : FERRY_CONFIG_DECISION_OFF;
	return 0;
}

int parse_transport(struct parser *parser, const struct key *key, const char *value, void *field)
{
	static const char *const names[] = {"auto", "rdma", "tcp"};
	enum ferry_config_transport *ret = field;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++)
		if (strcmp(value, names[i]) == 0) {
			*ret = (enum ferry_config_transport)(FERRY_CONFIG_TRANSPORT_AUTO + i);
			return 0;
		}
	return fail_at(parser, parser->line, "%s must be auto, rdma or tcp", key->name);
}

int parse_laying(struct parser *parser, const struct key *key, const char *value, void *field)
{
	static const char *const names[] = {"abort", "reset", "reinstate", "quiesce"};
	enum ferry_laying_way *ret = field;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(names); i++)
		if (strcmp(value, names[i]) == 0) {
			*ret = (enum ferry_laying_way)(FERRY_LAYING_ABORT + i);
			return 0;
		}
	return fail_at(parser, parser->line, "%s must be one of abort, reset, reinstate, quiesce",
		       key->name);
}

/* As inet_ntop(3) writes it, so that one address has one spelling. */
static bool address_copy(const char *text, size_t length, char *ret)
{
	char copy[FERRY_CONFIG_ADDRESS_BYTES];
	uint8_t bytes[16];
	int family;

	if (length == 0 || length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	return inet_pton(family, copy, bytes) == 1 &&
	       inet_ntop(family, bytes, ret, FERRY_CONFIG_ADDRESS_BYTES);
}

/* ADDRESS[:PORT], IPv6 in brackets if a port follows. The port stays if there is none. */
static bool endpoint_read(const char *value, bool is_port_needed, struct ferry_config_endpoint *ret)
{
	const char *port = NULL;
	size_t length = strlen(value);
	uint64_t number;

	if (value[0] == '[') {
		const char *close = strchr(value, ']');

		if (!close || (close[1] != '\0' && close[1] != ':'))
			return false;
		port = close[1] == ':' ? close + 2 : NULL;
		value++;
		length = (size_t)(close - value);
		if (!memchr(value, ':', length))
			return false;
	} else if (strchr(value, ':') && strchr(value, ':') == strrchr(value, ':')) {
		port = strchr(value, ':') + 1;
		length = (size_t)(port - 1 - value);
	}
	if ((!port && is_port_needed) || !address_copy(value, length, ret->address))
		return false;
	if (!port)
		return true;
	if (!number_read(port, strlen(port), &number) || number == 0 || number > UINT16_MAX)
		return false;
	ret->port = (uint16_t)number;
	return true;
}

int parse_address(struct parser *parser, const struct key *key, const char *value, void *field)
{
	struct ferry_config_endpoint *ret = field;

	if (!address_copy(value, strlen(value), ret->address))
		return fail_at(parser, parser->line,
			       "%s must be a numeric address, such as 192.0.2.1 or 2001:db8::1",
			       key->name);
	return 0;
}

int parse_endpoint(struct parser *parser, const struct key *key, const char *value, void *field)
{
	struct ferry_config_endpoint *ret = field;

	if (!endpoint_read(value, /* is_port_needed= */ false, ret))
		return fail_at(parser, parser->line,
			       "%s must be ADDRESS or ADDRESS:PORT with a numeric address, such as "
			       "192.0.2.1:7077 or [2001:db8::1]:7077",
			       key->name);
	return 0;
}

int parse_power_agent(struct parser *parser, const struct key *key, const char *value, void *field)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	/* They keep a node from the storage, only look, or leave it to the node itself. */
	static const char *const powerless[] = {"fence_ferry", "fence_scsi", "fence_mpath",
						"fence_kdump", "fence_sbd",  "fence_watchdog"};
	struct ferry_config *config = field;
	size_t length = strlen(value);

	if (config->power_agents_count == FERRY_CONFIG_POWER_AGENTS_MAX)
		return fail_at(parser, parser->line, "at most %d times %s",
			       FERRY_CONFIG_POWER_AGENTS_MAX, key->name);
	if (length == 0 || length >= FERRY_CONFIG_POWER_AGENT_BYTES ||
	    strspn(value, allowed) != length)
		return fail_at(parser, parser->line,
			       "%s must be the name of one fence agent, such as fence_ipmilan",
			       key->name);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(powerless); i++)
		if (strcmp(value, powerless[i]) == 0)
			return fail_at(parser, parser->line,
				       "%s: %s cuts no power, or does not confirm it", key->name,
				       value);
	memcpy(config->power_agents[config->power_agents_count++], value, length + 1);
	return 0;
}

int parse_nbd_listen(struct parser *parser, const struct key *key, const char *value, void *field)
{
	struct ferry_config *config = field;
	struct ferry_config_listen listen = {0};
	int r;

	if (config->nbd_listens_count == FERRY_CONFIG_LISTENS_MAX)
		return fail_at(parser, parser->line, "at most %d times %s",
			       FERRY_CONFIG_LISTENS_MAX, key->name);
	if (strncmp(value, "unix:", 5) == 0) {
		listen.is_unix = true;
		r = path_copy(parser, "the socket", value + 5, listen.path, sizeof(listen.path));
		if (r < 0)
			return r;
	} else if (strncmp(value, "tcp:", 4) != 0 ||
		   !endpoint_read(value + 4, /* is_port_needed= */ true, &listen.tcp)) {
		return fail_at(parser, parser->line,
			       "%s must be unix:PATH or tcp:ADDRESS:PORT, such as "
			       "tcp:127.0.0.1:10809",
			       key->name);
	}
	for (uint32_t i = 0; i < config->nbd_listens_count; i++)
		if (memcmp(&config->nbd_listens[i], &listen, sizeof(listen)) == 0)
			return fail_at(parser, parser->line, "%s %.100s is there already",
				       key->name, value);
	config->nbd_listens[config->nbd_listens_count++] = listen;
	return 0;
}

static int lun_kind_set(struct parser *parser, const struct key *key, struct ferry_config_lun *lun)
{
	if (lun->kind != 0)
		return fail_at(parser, parser->line,
			       "a lun has one of device, file and iscsi; remove %s or the other",
			       key->name);
	lun->kind = (enum ferry_config_lun_kind)key->minimum;
	return 0;
}

int parse_lun_path(struct parser *parser, const struct key *key, const char *value, void *field)
{
	struct ferry_config_lun *lun = field;
	int r = lun_kind_set(parser, key, lun);

	if (r < 0)
		return r;
	return path_copy(parser, key->name, value, lun->path, sizeof(lun->path));
}

/* HOST[:PORT] of an iSCSI portal; a name is allowed here, the initiator resolves it. */
static bool portal_read(const char *text, size_t length, struct ferry_config_lun *lun)
{
	const char *colon = memchr(text, ':', length);
	struct ferry_config_endpoint endpoint = {.port = FERRY_CONFIG_ISCSI_PORT_DEFAULT};
	char copy[FERRY_CONFIG_HOST_BYTES + 8];
	size_t host_length;

	if (length == 0 || length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	lun->port = endpoint.port;
	if (copy[0] == '[') {
		if (!endpoint_read(copy, /* is_port_needed= */ false, &endpoint))
			return false;
		memcpy(lun->host, endpoint.address, sizeof(endpoint.address));
		lun->port = endpoint.port;
		return true;
	}
	host_length = colon ? (size_t)(colon - text) : length;
	if (colon) {
		uint64_t number;

		if (!number_read(colon + 1, length - host_length - 1, &number) || number == 0 ||
		    number > UINT16_MAX)
			return false;
		lun->port = (uint16_t)number;
	}
	if (host_length == 0 || host_length >= sizeof(lun->host))
		return false;
	for (size_t i = 0; i < host_length; i++) {
		if (!is_in(copy[i], "-."))
			return false;
		lun->host[i] = (char)tolower((unsigned char)copy[i]);
	}
	return true;
}

/* iscsi://HOST[:PORT]/TARGET/LUN */
int parse_lun_url(struct parser *parser, const struct key *key, const char *value, void *field)
{
	static const char scheme[] = "iscsi://";
	struct ferry_config_lun *lun = field;
	const char *portal = value + strlen(scheme);
	const char *target, *number;
	uint64_t target_lun;
	int r = lun_kind_set(parser, key, lun);

	if (r < 0)
		return r;
	if (strncmp(value, scheme, strlen(scheme)) != 0)
		goto bad;
	if (strpbrk(portal, "@%"))
		return fail_at(parser, parser->line,
			       "no user or password in %s: use chap_user and chap_password_file",
			       key->name);
	target = strchr(portal, '/');
	number = target ? strchr(target + 1, '/') : NULL;
	if (!number || !portal_read(portal, (size_t)(target - portal), lun))
		goto bad;
	if (!iqn_copy(target + 1, (size_t)(number - target - 1), lun->target))
		goto bad;
	if (!number_read(number + 1, strlen(number + 1), &target_lun) ||
	    target_lun > FERRY_CONFIG_ISCSI_LUN_MAX)
		goto bad;
	lun->target_lun = (uint32_t)target_lun;
	return 0;
bad:
	return fail_at(parser, parser->line,
		       "%s must be iscsi://HOST[:PORT]/TARGET/LUN, such as "
		       "iscsi://192.0.2.9/iqn.2026-01.org.example:disk1/1",
		       key->name);
}

/* Names of what may come later in the file: looked up at its end. */
int parse_reference(struct parser *parser, const struct key *key, const char *value, void *field)
{
	struct pending_names *pending;

	(void)field;
	if (parser->section == SECTION_POOL)
		pending = &parser->pool_luns[parser->config->pools_count - 1];
	else if (key->minimum == 0)
		pending = &parser->volume_luns[parser->config->volumes_count - 1];
	else
		pending = &parser->volume_pools[parser->config->volumes_count - 1];
	ferry_assert(pending->line == 0);
	ferry_assert(strlen(value) < sizeof(pending->text));
	pending->line = parser->line;
	(void)snprintf(pending->text, sizeof(pending->text), "%s", value);
	return 0;
}
