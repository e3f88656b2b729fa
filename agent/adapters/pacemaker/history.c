#include "agent/adapters/pacemaker/history.h"

#include "agent/ports/group.h"

enum { ATTRIBUTES_MAX = 32 };

/* ---- Tags. ---- */

struct slice {
	const char *at;
	size_t length;
};

struct attribute {
	struct slice name;
	struct slice value;
};

struct tag {
	struct slice name;
	bool is_end;   /* </name> */
	bool is_empty; /* <name/> */
	struct attribute attributes[ATTRIBUTES_MAX];
	uint32_t attributes_count;
};

struct cursor {
	const char *at;
	const char *end;
};

static bool slice_is(struct slice slice, const char *text)
{
	return slice.length == strlen(text) && memcmp(slice.at, text, slice.length) == 0;
}

static bool slice_equal(struct slice one, struct slice other)
{
	return one.length == other.length && memcmp(one.at, other.at, one.length) == 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void spaces_skip(struct cursor *cursor)
{
	while (cursor->at < cursor->end && is_space(*cursor->at))
		cursor->at++;
}

static bool take(struct cursor *cursor, char c)
{
	if (cursor->at == cursor->end || *cursor->at != c)
		return false;
	cursor->at++;
	return true;
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.' || c == ':';
}

static struct slice name_read(struct cursor *cursor)
{
	struct slice name = {.at = cursor->at};

	while (cursor->at < cursor->end && is_name_char(*cursor->at))
		cursor->at++;
	name.length = (size_t)(cursor->at - name.at);
	return name;
}

/* name="value": libxml2 writes no other quotes when the value has none. */
static int attribute_read(struct cursor *cursor, struct attribute *ret)
{
	char quote;

	ret->name = name_read(cursor);
	if (ret->name.length == 0 || !take(cursor, '='))
		return -EBADMSG;
	quote = cursor->at < cursor->end ? *cursor->at : '\0';
	if (quote != '"' && quote != '\'')
		return -EBADMSG;
	ret->value.at = ++cursor->at;
	while (cursor->at < cursor->end && *cursor->at != quote)
		cursor->at++;
	ret->value.length = (size_t)(cursor->at - ret->value.at);
	return take(cursor, quote) ? 0 : -EBADMSG;
}

static int attributes_read(struct cursor *cursor, struct tag *tag)
{
	for (;;) {
		spaces_skip(cursor);
		if (take(cursor, '>'))
			return 1;
		if (take(cursor, '/')) {
			tag->is_empty = true;
			return take(cursor, '>') ? 1 : -EBADMSG;
		}
		if (tag->attributes_count == ATTRIBUTES_MAX)
			return -EBADMSG;
		if (attribute_read(cursor, &tag->attributes[tag->attributes_count]) < 0)
			return -EBADMSG;
		tag->attributes_count++;
	}
}

/* 1: the next tag; 0: there is none. Text between tags does not matter; <?xml ...?> is passed. */
static int tag_read(struct cursor *cursor, struct tag *ret)
{
	ret->is_end = ret->is_empty = false;
	ret->attributes_count = 0;
	do {
		while (cursor->at < cursor->end && *cursor->at != '<')
			cursor->at++;
		if (!take(cursor, '<'))
			return 0;
	} while (take(cursor, '?'));
	ret->is_end = take(cursor, '/');
	ret->name = name_read(cursor);
	if (ret->name.length == 0)
		return -EBADMSG; /* A comment, CDATA: never seen here. */
	return attributes_read(cursor, ret);
}

static struct slice value(const struct tag *tag, const char *name)
{
	for (uint32_t i = 0; i < tag->attributes_count; i++)
		if (slice_is(tag->attributes[i].name, name))
			return tag->attributes[i].value;
	return (struct slice){.at = "", .length = 0};
}

/* ---- Numbers and times. ---- */

/* @count digits, or with 0 all that there is. */
static bool number_read(struct slice text, size_t count, uint64_t max, uint64_t *ret)
{
	uint64_t number = 0;

	if (text.length == 0 || text.length < count)
		return false;
	for (size_t i = 0; i < (count ? count : text.length); i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		number = 10 * number + (uint64_t)(text.at[i] - '0');
		if (number > max)
			return false;
	}
	*ret = number;
	return true;
}

static struct slice from(struct slice text, size_t offset)
{
	return (struct slice){text.at + offset, text.length - offset};
}

/* Days since 1970-01-01, of the Gregorian calendar. */
static uint64_t days_of(uint64_t year, uint64_t month, uint64_t day)
{
	static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	uint64_t last = year - (month <= 2); /* Whose leap day has been. */

	return (year - 1970) * 365 + (last / 4 - last / 100 + last / 400) -
	       (1969 / 4 - 1969 / 100 + 1969 / 400) + before[month - 1] + day - 1;
}

/* "2026-11-23 11:05:24Z", perhaps with a fraction. It is asked for in UTC, and nothing else. */
static bool time_read(struct slice text, uint64_t *ret)
{
	static const char shape[] = "0000-00-00 00:00:00";
	uint64_t year, month, day, hour, minute, second;

	if (text.length < sizeof(shape))
		return false;
	for (size_t i = 0; i < sizeof(shape) - 1; i++)
		if (shape[i] != '0' && text.at[i] != shape[i])
			return false;
	if (text.at[text.length - 1] != 'Z' || !number_read(text, 4, 9999, &year) ||
	    !number_read(from(text, 5), 2, 12, &month) ||
	    !number_read(from(text, 8), 2, 31, &day) ||
	    !number_read(from(text, 11), 2, 23, &hour) ||
	    !number_read(from(text, 14), 2, 59, &minute) ||
	    !number_read(from(text, 17), 2, 60, &second) || year < 1970 || month == 0 || day == 0)
		return false;
	*ret = ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
	return true;
}

/* ---- What the tags say. ---- */

struct reader {
	const struct ferry_history_agents *agents;
	struct ferry_power_report *report;
	struct slice names[FERRY_NODES_MAX];
	struct ferry_node nodes[FERRY_NODES_MAX];
	uint32_t nodes_count;
	uint32_t devices_count;
	bool is_in_nodes;
	bool is_begun; /* <pacemaker-result>... */
	bool is_over;  /* ...and its end. */
	bool is_done;  /* The command's own word. */
};

static struct ferry_node node_find(const struct reader *reader, struct slice name)
{
	for (uint32_t i = 0; i < reader->nodes_count; i++)
		if (slice_equal(reader->names[i], name))
			return reader->nodes[i];
	return (struct ferry_node){0};
}

static int node_note(struct reader *reader, const struct tag *tag)
{
	uint64_t id = 0;

	/* Remote nodes have a name there; they run no agent. */
	if (!reader->is_in_nodes || !number_read(value(tag, "id"), 0, UINT32_MAX, &id) || id == 0)
		return 0;
	if (value(tag, "name").length == 0)
		return -EBADMSG;
	if (reader->nodes_count == FERRY_NODES_MAX)
		return -E2BIG;
	reader->names[reader->nodes_count] = value(tag, "name");
	reader->nodes[reader->nodes_count++].v = (uint32_t)id;
	return 0;
}

static void resource_note(struct reader *reader, const struct tag *tag)
{
	static const char standard[] = "stonith:";
	struct slice agent = value(tag, "resource_agent");
	bool is_known = false;

	if (agent.length < sizeof(standard) - 1 ||
	    memcmp(agent.at, standard, sizeof(standard) - 1) != 0)
		return;
	agent = from(agent, sizeof(standard) - 1);
	for (uint32_t i = 0; i < reader->agents->count; i++)
		is_known |= slice_is(agent, reader->agents->names[i]);
	reader->devices_count++;
	reader->report->cuts_power &= is_known;
}

/*
 * "a human" (stonith_admin --confirm) is no device, and a node that has vouched for itself is no
 * witness; nobody at all is what a watchdog leaves, which is taken for granted by the clock.
 */
static bool has_witness(const struct reader *reader, const struct tag *tag,
			struct ferry_node target)
{
	struct ferry_node delegate = node_find(reader, value(tag, "delegate"));

	return delegate.v != 0 && delegate.v != target.v;
}

static int fencing_note(struct reader *reader, const struct tag *tag)
{
	struct ferry_power_report *report = reader->report;
	struct ferry_power_fencing fencing = {.node = node_find(reader, value(tag, "target")),
					      .result = FERRY_POWER_PROVES_NOT};
	struct slice status = value(tag, "status");
	struct slice action = value(tag, "action");
	bool is_off = slice_is(action, "off") || slice_is(action, "reboot");

	if (fencing.node.v == 0)
		return 0;
	if (report->count == FERRY_POWER_FENCINGS_MAX)
		return -E2BIG;
	if (slice_is(status, "pending"))
		fencing.result = FERRY_POWER_PENDING;
	else if (!slice_is(status, "success") && !slice_is(status, "failed"))
		return -EBADMSG;
	else if (!time_read(value(tag, "completed"), &fencing.ended_s))
		return -EBADMSG;
	else if (slice_is(status, "success") && is_off && has_witness(reader, tag, fencing.node))
		fencing.result = FERRY_POWER_CUT;
	report->fencings[report->count++] = fencing;
	return 0;
}

static int tag_note(struct reader *reader, const struct tag *tag)
{
	if (slice_is(tag->name, "pacemaker-result")) {
		reader->is_over = tag->is_end;
		reader->is_begun = true;
	} else if (slice_is(tag->name, "nodes")) {
		reader->is_in_nodes = !tag->is_end && !tag->is_empty;
	} else if (tag->is_end) {
		return 0;
	} else if (slice_is(tag->name, "node")) {
		return node_note(reader, tag);
	} else if (slice_is(tag->name, "resource")) {
		resource_note(reader, tag);
	} else if (slice_is(tag->name, "fence_history")) {
		/* Its status is there if the history could not be had. */
		return value(tag, "status").length > 0 && !slice_is(value(tag, "status"), "0")
			       ? -EIO
			       : 0;
	} else if (slice_is(tag->name, "fence_event")) {
		return fencing_note(reader, tag);
	} else if (slice_is(tag->name, "pacemakerd")) {
		return slice_is(value(tag, "state"), "running") ? 0 : -EIO;
	} else if (slice_is(tag->name, "status")) {
		reader->is_done = slice_is(value(tag, "code"), "0");
		return reader->is_done ? 0 : -EIO;
	}
	return 0;
}

int ferry_history_parse(const char *text, size_t length_bytes,
			const struct ferry_history_agents *agents, struct ferry_power_report *ret)
{
	struct cursor cursor = {.at = text, .end = text + length_bytes};
	struct reader reader = {.agents = agents, .report = ret};
	struct tag tag;
	int r;

	ferry_assert(text && agents && ret);
	ret->count = 0;
	ret->cuts_power = true;
	while ((r = tag_read(&cursor, &tag)) > 0) {
		r = tag_note(&reader, &tag);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (!reader.is_begun || !reader.is_over || !reader.is_done || reader.nodes_count == 0)
		return -EBADMSG;
	ret->cuts_power &= reader.devices_count > 0;
	return 0;
}
