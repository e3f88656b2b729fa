/*
 * internal.h - what the files of this folder share.
 *
 * Owns:    see inifile.h.
 * Callers: inifile.c (file, lines, sections), keys.c (the table of keys), values.c (what a value
 *          may be), check.c (what only the whole shows).
 * Thread:  start-up's.
 * Rooms:   this folder only.
 */
#pragma once

#include "agent/adapters/inifile/inifile.h"

enum section {
	SECTION_NONE = 1, /* Before the first one. */
	SECTION_AGENT,
	SECTION_CACHE,
	SECTION_DECISION,
	SECTION_PACEMAKER,
	SECTION_NBD,
	SECTION_FUSE,
	SECTION_UBLK,
	SECTION_PEER,
	SECTION_LUN,
	SECTION_POOL,
	SECTION_VOLUME,
	SECTION_END,
};

/* References are names until everything is read. */
struct pending_names {
	uint32_t line;
	char text[FERRY_INIFILE_LINE_MAX];
};

struct parser {
	const char *name;
	const char *text;
	size_t length_bytes;
	size_t offset_bytes;
	uint32_t line;
	struct ferry_config *config;
	struct ferry_error *reterr;
	int error; /* The first one; nothing is read after it. */

	enum section section;
	uint32_t section_line;
	uint32_t section_lines[SECTION_END]; /* Of those that are there once at most. */
	void *base;			     /* What the keys of this section fill. */
	uint64_t keys_seen;		     /* Of this section, by index in the table. */

	struct pending_names pool_luns[FERRY_CONFIG_POOLS_MAX];
	struct pending_names volume_luns[FERRY_CONFIG_VOLUMES_MAX];
	struct pending_names volume_pools[FERRY_CONFIG_VOLUMES_MAX];
};

/* One key. @field is in the section's base; what @limit and @minimum mean is @parse's matter. */
struct key {
	enum section section;
	const char *name;
	int (*parse)(struct parser *parser, const struct key *key, const char *value, void *field);
	size_t offset;
	uint64_t minimum;
	uint64_t limit;
	bool may_repeat;
};

/* Fail at @line, the first time; always -EINVAL. */
int fail_at(struct parser *parser, uint32_t line, const char *format, ...) FERRY_PRINTF(3, 4);

/* keys.c */
const struct key *key_find(enum section section, const char *name, uint32_t *ret_index);
/* Whether the key was set in the section that is open. */
bool key_is_seen(const struct parser *parser, const char *name);
/* The keys of a section, for the message about an unknown one. */
void key_names(enum section section, char *ret, size_t size_bytes);

/* values.c: each returns 0, or fails at the parser's line. */
bool is_name(const char *text, size_t length);
int parse_path(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_word(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_iqn(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_bool(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_u32(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_port(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_duration(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_size(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_block_bytes(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_log_level(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_transport(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_laying(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_flush_scope(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_decision(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_address(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_endpoint(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_power_agent(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_nbd_listen(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_lun_path(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_lun_url(struct parser *parser, const struct key *key, const char *value, void *field);
int parse_reference(struct parser *parser, const struct key *key, const char *value, void *field);

/* check.c: at the end of a section, and at the end of the file. */
int section_check(struct parser *parser);
int config_check(struct parser *parser);
