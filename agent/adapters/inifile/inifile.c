#include "agent/adapters/inifile/inifile.h"

#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/inifile/internal.h"

int fail_at(struct parser *parser, uint32_t line, const char *format, ...)
{
	char message[FERRY_ERROR_MESSAGE_MAX];
	va_list arguments;

	ferry_assert(parser && format);
	if (parser->error < 0)
		return parser->error;
	va_start(arguments, format);
	(void)vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	parser->error =
		ferry_error_set(parser->reterr, -EINVAL, "%s:%u: %s", parser->name, line, message);
	return parser->error;
}

/* A section that may be there once: fails if it was. */
static int section_open_once(struct parser *parser, enum section section)
{
	ferry_assert(section < SECTION_END);
	if (parser->section_lines[section] != 0)
		return fail_at(parser, parser->line,
			       "this section is there already, at line %u; put its keys there",
			       parser->section_lines[section]);
	parser->section_lines[section] = parser->line;
	parser->base = parser->config;
	return 0;
}

/* The next element of an array of named things; each begins with its name and its line. */
static int section_open_named(struct parser *parser, const char *kind, const char *name,
			      size_t name_length, void *array, size_t size_bytes, uint32_t *count,
			      uint32_t max)
{
	uint8_t *element;

	if (!is_name(name, name_length))
		return fail_at(
			parser, parser->line,
			"[%s NAME] needs a name of 1 to %d of a-z, 0-9 and -, which is not the "
			"first",
			kind, FERRY_CONFIG_NAME_BYTES - 1);
	for (uint32_t i = 0; i < *count; i++) {
		const char *other = (const char *)array + i * size_bytes;

		if (strlen(other) == name_length && memcmp(other, name, name_length) == 0)
			return fail_at(parser, parser->line,
				       "there is a [%s %s] already; give this one another name",
				       kind, other);
	}
	if (*count == max)
		return fail_at(parser, parser->line, "more than %u [%s] sections", max, kind);
	element = (uint8_t *)array + (*count)++ * size_bytes;
	memcpy(element, name, name_length);
	memcpy(element + FERRY_CONFIG_NAME_BYTES, &parser->line, sizeof(parser->line));
	parser->base = element;
	return 0;
}
#define CHECK_NAMED(type)                                                                          \
	_Static_assert(offsetof(struct type, name) == 0 &&                                         \
			       offsetof(struct type, line) == FERRY_CONFIG_NAME_BYTES,             \
		       "section_open_named() fills these")
CHECK_NAMED(ferry_config_peer);
CHECK_NAMED(ferry_config_lun);
CHECK_NAMED(ferry_config_pool);
CHECK_NAMED(ferry_config_volume);

static int section_open_kind(struct parser *parser, const char *text)
{
	static const struct {
		const char *name;
		enum section section;
	} once[] = {{"agent", SECTION_AGENT},
		    {"cache", SECTION_CACHE},
		    {"decision", SECTION_DECISION},
		    {"nbd", SECTION_NBD},
		    {"pacemaker", SECTION_PACEMAKER},
		    {"fuse", SECTION_FUSE},
		    {"ublk", SECTION_UBLK}};
	struct ferry_config *config = parser->config;
	size_t kind_length = strcspn(text, " \t");
	const char *name = text + kind_length + strspn(text + kind_length, " \t");

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(once); i++)
		if (strcmp(text, once[i].name) == 0) {
			parser->section = once[i].section;
			return section_open_once(parser, parser->section);
		}
#define NAMED(kind, number, array)                                                                 \
	if (kind_length == strlen(kind) && memcmp(text, kind, kind_length) == 0) {                 \
		parser->section = number;                                                          \
		return section_open_named(parser, kind, name, strlen(name), config->array,         \
					  sizeof(config->array[0]), &config->array##_count,        \
					  (uint32_t)FERRY_ARRAY_COUNT(config->array));             \
	}
	NAMED("peer", SECTION_PEER, peers)
	NAMED("lun", SECTION_LUN, luns)
	NAMED("pool", SECTION_POOL, pools)
	NAMED("volume", SECTION_VOLUME, volumes)
#undef NAMED
	return fail_at(parser, parser->line,
		       "unknown section [%.60s]; there are agent, cache, decision, pacemaker, nbd, "
		       "fuse, ublk, peer NAME, lun NAME, pool NAME, volume NAME",
		       text);
}

/* @line: from the bracket on. libinih calls nobody for a section without keys: so we look. */
static int section_open(struct parser *parser, const char *line)
{
	char text[FERRY_INIFILE_LINE_MAX + 1];
	size_t length = strcspn(line, "]");
	const char *rest = line + length;
	int r;

	ferry_assert(line[0] == '[');
	if (*rest != ']')
		return fail_at(parser, parser->line, "a section's line ends with ]");
	rest += 1 + strspn(rest + 1, " \t");
	if (*rest != '\0' && *rest != ';' && *rest != '#')
		return fail_at(parser, parser->line, "nothing may follow the ] of a section");
	r = section_check(parser); /* Of the one before. */
	if (r < 0)
		return r;
	(void)snprintf(text, sizeof(text), "%.*s", (int)length - 1, line + 1);
	parser->section_line = parser->line;
	parser->keys_seen = 0;
	r = section_open_kind(parser, text);
	parser->config->is_nbd = parser->section_lines[SECTION_NBD] != 0;
	parser->config->is_fuse = parser->section_lines[SECTION_FUSE] != 0;
	parser->config->is_ublk = parser->section_lines[SECTION_UBLK] != 0;
	return r;
}

/* What libinih would let pass or misread: told here. @line has no leading blanks and no end. */
static int line_check(struct parser *parser, const char *line)
{
	if (line[0] == '\0' || line[0] == '#' || line[0] == ';')
		return 0;
	if (line[0] == '[')
		return section_open(parser, line);
	if (line[strcspn(line, "=:")] != '=')
		return fail_at(parser, parser->line, "expected: key = value");
	if (line[0] == '=')
		return fail_at(parser, parser->line, "a key is missing before the =");
	return 0;
}

/* The next line's length without its end; fails if it holds what no line may. */
static int line_next(struct parser *parser, const char **ret, size_t *ret_length)
{
	const char *begin = parser->text + parser->offset_bytes;
	size_t left = parser->length_bytes - parser->offset_bytes;
	const char *end = memchr(begin, '\n', left);
	size_t length = end ? (size_t)(end - begin) : left;

	ferry_assert(left > 0);
	parser->line++;
	parser->offset_bytes += length + (end ? 1 : 0);
	if (length > 0 && begin[length - 1] == '\r')
		length--;
	for (size_t i = 0; i < length; i++)
		if (((unsigned char)begin[i] < ' ' && begin[i] != '\t') || begin[i] == 0x7f)
			return fail_at(parser, parser->line,
				       "a control character (byte %u); is this a text file?",
				       (unsigned char)begin[i]);
	if (parser->line == 1 && length >= 3 && memcmp(begin, "\xef\xbb\xbf", 3) == 0) {
		begin += 3; /* The mark that some editors put before UTF-8. */
		length -= 3;
	}
	while (length > 0 && (*begin == ' ' || *begin == '\t')) {
		begin++;
		length--;
	}
	if (length > FERRY_INIFILE_LINE_MAX)
		return fail_at(parser, parser->line, "this line is longer than %d bytes",
			       FERRY_INIFILE_LINE_MAX);
	*ret = begin;
	*ret_length = length;
	return 0;
}

/*
 * libinih's reader: one line per call, so we know the number of the line that it hands to the
 * handler next. Leading blanks go: with them libinih would take a line as the last value's
 * continuation. After an error: as if the file ended.
 */
static char *on_read(char *buffer, int size_bytes, void *stream)
{
	struct parser *parser = stream;
	const char *line = NULL;
	size_t length = 0;

	ferry_assert(size_bytes > FERRY_INIFILE_LINE_MAX + 2);
	if (parser->error < 0 || parser->offset_bytes >= parser->length_bytes)
		return NULL;
	if (line_next(parser, &line, &length) < 0)
		return NULL;
	memcpy(buffer, line, length);
	buffer[length] = '\0';
	if (line_check(parser, buffer) < 0)
		return NULL;
	buffer[length] = '\n';
	buffer[length + 1] = '\0';
	return buffer;
}

/* libinih's handler; returns whether to go on. */
static int on_value(void *user, const char *section, const char *name, const char *value)
{
	struct parser *parser = user;
	const struct key *key;
	char names[200];
	uint32_t index;

	(void)section; /* We know it from the line; libinih cuts long ones. */
	ferry_assert(name && value);
	if (parser->error < 0)
		return 0;
	if (parser->section == SECTION_NONE)
		return fail_at(parser, parser->line,
			       "a key before the first section; begin with [agent]") == 0;
	key = key_find(parser->section, name, &index);
	if (!key) {
		key_names(parser->section, names, sizeof(names));
		return fail_at(parser, parser->line, "unknown key %.40s; this section has: %s",
			       name, names) == 0;
	}
	if (value[0] == '\0')
		return fail_at(parser, parser->line,
			       "%s has no value; give one, or remove the line", name) == 0;
	if ((parser->keys_seen & UINT64_C(1) << index) && !key->may_repeat)
		return fail_at(parser, parser->line, "%s is there twice in this section", name) ==
		       0;
	parser->keys_seen |= UINT64_C(1) << index;
	return key->parse(parser, key, value, (uint8_t *)parser->base + key->offset) == 0;
}

static int parse(struct parser *parser)
{
	/* The process's settings of libinih: its default cuts lines at 200 bytes. */
	bool old_use_stack = ini_use_stack;
	int old_max_line = ini_max_line;
	int old_initial = ini_initial_alloc;
	int r;

	ini_use_stack = false;
	ini_max_line = FERRY_INIFILE_LINE_MAX + 8;
	ini_initial_alloc = ini_max_line;
	r = ini_parse_stream(on_read, parser, on_value, parser);
	ini_use_stack = old_use_stack;
	ini_max_line = old_max_line;
	ini_initial_alloc = old_initial;
	if (parser->error < 0)
		return parser->error;
	if (r == -2)
		return ferry_error_set(parser->reterr, -ENOMEM, "no memory to read %s",
				       parser->name);
	if (r > 0)
		return fail_at(parser, (uint32_t)r, "this line is not understood");
	r = section_check(parser);
	return r < 0 ? r : config_check(parser);
}

int ferry_inifile_parse(const char *name, const char *text, size_t length_bytes,
			struct ferry_config *ret, struct ferry_error *reterr)
{
	struct parser *parser;
	struct ferry_config *config;
	int r = -ENOMEM;

	ferry_assert(name && ret);
	ferry_assert(text || length_bytes == 0);
	if (length_bytes > FERRY_INIFILE_BYTES_MAX)
		return ferry_error_set(reterr, -EFBIG, "%s is larger than 1 MiB", name);
	parser = calloc(1, sizeof(*parser));
	config = calloc(1, sizeof(*config));
	if (parser && config) {
		ferry_config_defaults(config);
		config->fuse_mountpoint[0] = '\0'; /* Depends on run_dir: config_check(). */
		*parser = (struct parser){.name = name,
					  .text = text,
					  .length_bytes = length_bytes,
					  .config = config,
					  .reterr = reterr,
					  .section = SECTION_NONE};
		r = parse(parser);
	} else {
		(void)ferry_error_set(reterr, r, "no memory to read %s", name);
	}
	if (r == 0)
		*ret = *config;
	free(config);
	free(parser);
	return r;
}

static int file_read(const char *path, char *text, size_t size_bytes, size_t *ret_length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	int r = 0;

	if (fd < 0)
		return -errno;
	while (length < size_bytes) {
		ssize_t got = read(fd, text + length, size_bytes - length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			r = -errno;
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	(void)close(fd);
	*ret_length = length;
	return r;
}

int ferry_inifile_load(const char *path, struct ferry_config *ret, struct ferry_error *reterr)
{
	enum { ROOM_BYTES = FERRY_INIFILE_BYTES_MAX + 1 }; /* One more tells that it is larger. */
	char *text = malloc(ROOM_BYTES);
	size_t length = 0;
	int r;

	ferry_assert(path && ret);
	if (!text)
		return ferry_error_set(reterr, -ENOMEM, "no memory to read %s", path);
	r = file_read(path, text, ROOM_BYTES, &length);
	if (r < 0)
		(void)ferry_error_set(reterr, r, "cannot read the configuration %s: %s", path,
				      strerror(-r));
	else
		r = ferry_inifile_parse(path, text, length, ret, reterr);
	free(text);
	return r;
}
