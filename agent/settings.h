/*
 * settings.h - from the command line and the configuration file to what the agent runs with.
 *
 * A standalone agent has no file: its options are turned into one and read by the same reader, so
 * that both are checked by the same rules.
 *
 * Owns:    struct ferry_settings: the configuration and the strings that it points to.
 * Callers: main.c.
 * Thread:  the starting thread.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/data.h"
#include "agent/ports/config.h"

enum ferry_settings_action {
	FERRY_SETTINGS_RUN = 1,
	FERRY_SETTINGS_CHECK,	 /* --check: is the configuration right, and what it names there? */
	FERRY_SETTINGS_WITHDRAW, /* --withdraw: unset the attributes of an agent that is gone. */
	FERRY_SETTINGS_VERSION,
	FERRY_SETTINGS_HELP,
};

struct ferry_settings {
	enum ferry_settings_action action;
	const char *file; /* The configuration's, for messages; the command line's memory. */
	bool is_standalone;
	bool ignores_registrations; /* Alone, on a lun that others are registered at. */
	bool has_control;	    /* A control socket in run_dir. */
	bool logs_to_syslog;
	struct ferry_config config;
	/* Made for the data thread. */
	char portals[FERRY_CONFIG_LUNS_MAX][FERRY_CONFIG_HOST_BYTES + 8];
	char initiators[FERRY_CONFIG_LUNS_MAX][FERRY_CONFIG_IQN_BYTES];
	char passwords[FERRY_CONFIG_LUNS_MAX][256];
	char listens[FERRY_CONFIG_LISTENS_MAX][FERRY_CONFIG_SOCKET_BYTES + 8];
};

extern const char ferry_settings_help[];

/* -EINVAL: the options or the file; @reterr says what and where. Or errors of reading it. */
int ferry_settings_read(struct ferry_settings *settings, int argc, char **argv,
			struct ferry_error *reterr) FERRY_MUST_CHECK;

/* What is allowed, but can hardly be meant; or NULL. */
const char *ferry_settings_warning(const struct ferry_settings *settings);

/*
 * Whether the key and the passwords that the configuration names can be had as at a start. Their
 * readers' errors.
 */
int ferry_settings_check_files(const struct ferry_settings *settings,
			       struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * What the data thread runs with, but for identity and peers, which the cluster gives.
 * @node_name: for initiators that the configuration does not name. -EINVAL, or errors of reading
 * password files.
 */
int ferry_settings_data(struct ferry_settings *settings, const char *node_name, const char *cluster,
			struct ferry_data_config *ret, struct ferry_error *reterr) FERRY_MUST_CHECK;
