#include "agent/settings.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/inifile/inifile.h"
#include "agent/adapters/openssl/openssl.h"
#include "agent/base/checksum.h"

const char ferry_settings_help[] =
	"Usage: ferryd [--config FILE]\n"
	"       ferryd --standalone --lun FILE|DEVICE|iscsi://ADDRESS[:PORT]/TARGET/LUN [options]\n"
	"\n"
	"The agent of one node: applications' block I/O in, shared storage out, by this node's "
	"own\n"
	"path or, when that fails, through a peer's agent.\n"
	"\n"
	"  --config FILE      configuration; default /etc/ferry/ferryd.conf\n"
	"  --check            read and check the configuration, and end\n"
	"  --withdraw         unset this node's attributes at Pacemaker, and end: for when the "
	"agent\n"
	"                     has ended, in whatever way; ferryd.service does it\n"
	"  --standalone       one agent, no cluster, no configuration file:\n"
	"    --lun WHAT         a file, a block device, or an iSCSI url\n"
	"    --block-size N     of a file: 512 (default) or 4096\n"
	"    --name NAME        the volume's name; default \"volume\"\n"
	"    --read-only        refuse writes\n"
	"    --nbd WHERE        serve NBD on unix:PATH or tcp:ADDRESS:PORT; may be repeated\n"
	"    --fuse PATH        show the volume as this file\n"
	"    --ublk             `ferry attach` makes a device of the kernel's own\n"
	"    --memory SIZE      for I/O, e.g. 64M (default)\n"
	"    --cache SIZE       read cache; says that nobody else writes to the lun\n"
	"    --path-timeout T   an attempt without an answer is given up after this; default 5s\n"
	"    --hold-timeout T   I/O that no path can carry fails after this; default 60s\n"
	"    --despite-registrations\n"
	"                       serve a lun where nodes of a cluster are registered: they are old\n"
	"    --run-dir DIR      with a control socket there, for `ferry --socket "
	"DIR/ferry.sock`\n"
	"  --log-level LEVEL  debug, info (default), notice, warning, error; whatever the\n"
	"                     configuration file says\n"
	"  --syslog           log to syslog instead of stderr\n"
	"  --version, --help\n"
	"\n"
	"Signals: TERM and INT stop the agent, USR1 dumps the log's blackbox to the state "
	"directory.\n"
	"Exit codes: 0 stopped as asked, 1 failed, 2 the options or the configuration are wrong.\n";

enum option_number {
	OPTION_CONFIG = 256,
	OPTION_CHECK,
	OPTION_WITHDRAW,
	OPTION_STANDALONE,
	OPTION_LUN,
	OPTION_BLOCK_SIZE,
	OPTION_NAME,
	OPTION_READ_ONLY,
	OPTION_NBD,
	OPTION_FUSE,
	OPTION_UBLK,
	OPTION_MEMORY,
	OPTION_CACHE,
	OPTION_PATH_TIMEOUT,
	OPTION_HOLD_TIMEOUT,
	OPTION_DESPITE,
	OPTION_RUN_DIR,
	OPTION_LOG_LEVEL,
	OPTION_SYSLOG,
	OPTION_VERSION,
	OPTION_HELP,
};

static const struct option options[] = {
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"withdraw", no_argument, NULL, OPTION_WITHDRAW},
	{"standalone", no_argument, NULL, OPTION_STANDALONE},
	{"lun", required_argument, NULL, OPTION_LUN},
	{"block-size", required_argument, NULL, OPTION_BLOCK_SIZE},
	{"name", required_argument, NULL, OPTION_NAME},
	{"read-only", no_argument, NULL, OPTION_READ_ONLY},
	{"nbd", required_argument, NULL, OPTION_NBD},
	{"fuse", required_argument, NULL, OPTION_FUSE},
	{"ublk", no_argument, NULL, OPTION_UBLK},
	{"memory", required_argument, NULL, OPTION_MEMORY},
	{"cache", required_argument, NULL, OPTION_CACHE},
	{"path-timeout", required_argument, NULL, OPTION_PATH_TIMEOUT},
	{"hold-timeout", required_argument, NULL, OPTION_HOLD_TIMEOUT},
	{"despite-registrations", no_argument, NULL, OPTION_DESPITE},
	{"run-dir", required_argument, NULL, OPTION_RUN_DIR},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"syslog", no_argument, NULL, OPTION_SYSLOG},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0},
};

/* What the command line said, as it was said. */
struct arguments {
	const char *values[OPTION_HELP - OPTION_CONFIG + 1];
	const char *nbd[FERRY_CONFIG_LISTENS_MAX];
	uint32_t nbd_count;
};

static const char *argument(const struct arguments *arguments, enum option_number number)
{
	return arguments->values[number - OPTION_CONFIG];
}

static int arguments_read(struct arguments *arguments, int argc, char **argv,
			  struct ferry_error *reterr)
{
	int number;

	opterr = 0;
	optind = 1;
	while ((number = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (number == '?')
			return ferry_error_set(reterr, -EINVAL,
					       "unknown option or missing value: %s; see ferryd "
					       "--help",
					       argv[optind - 1]);
		if (number != OPTION_NBD) {
			arguments->values[number - OPTION_CONFIG] = optarg ? optarg : "";
			continue;
		}
		if (arguments->nbd_count == FERRY_CONFIG_LISTENS_MAX)
			return ferry_error_set(reterr, -EINVAL, "--nbd: at most %d",
					       FERRY_CONFIG_LISTENS_MAX);
		arguments->nbd[arguments->nbd_count++] = optarg;
	}
	if (optind < argc)
		return ferry_error_set(reterr, -EINVAL, "%s: not an option; see ferryd --help",
				       argv[optind]);
	return 0;
}

/* Options that only make sense without a configuration file. */
static int arguments_check(const struct arguments *arguments, struct ferry_error *reterr)
{
	bool is_standalone = argument(arguments, OPTION_STANDALONE);

	for (int number = OPTION_LUN; number <= OPTION_RUN_DIR; number++)
		if (!is_standalone && (argument(arguments, (enum option_number)number) ||
				       (number == OPTION_NBD && arguments->nbd_count > 0)))
			return ferry_error_set(reterr, -EINVAL,
					       "--%s goes with --standalone; otherwise it is said "
					       "in the configuration file",
					       options[number - OPTION_CONFIG].name);
	if (is_standalone && argument(arguments, OPTION_CONFIG))
		return ferry_error_set(reterr, -EINVAL,
				       "--standalone takes no --config: it has no file");
	if (is_standalone && !argument(arguments, OPTION_LUN))
		return ferry_error_set(reterr, -EINVAL, "--standalone needs --lun");
	if (is_standalone && arguments->nbd_count == 0 && !argument(arguments, OPTION_FUSE) &&
	    !argument(arguments, OPTION_UBLK))
		return ferry_error_set(reterr, -EINVAL,
				       "--standalone needs --nbd, --fuse or --ublk: nobody could "
				       "reach the volume");
	if (argument(arguments, OPTION_UBLK) && !argument(arguments, OPTION_RUN_DIR))
		return ferry_error_set(reterr, -EINVAL,
				       "--ublk needs --run-dir: `ferry attach` asks for the device "
				       "there");
	return 0;
}

/* ---- What the file may say, but this version or this way to run can't do. ---- */

static const struct ferry_config_volume *volume_of(const struct ferry_config *config, uint32_t pool)
{
	for (uint32_t i = 0; i < config->volumes_count; i++)
		if (config->volumes[i].pool == pool)
			return &config->volumes[i];
	return NULL;
}

static int config_check(const struct ferry_config *config, const char *file,
			struct ferry_error *reterr)
{
	if (config->pools_count == 0 || config->pools_count > FERRY_SNAPSHOT_POOLS_MAX)
		return ferry_error_set(reterr, -EINVAL, "%s: %u pools; this version serves 1 to %d",
				       file, config->pools_count, FERRY_SNAPSHOT_POOLS_MAX);
	for (uint32_t i = 0; i < config->luns_count; i++)
		if (config->luns[i].kind == FERRY_CONFIG_LUN_FILE)
			return ferry_error_set(reterr, -EINVAL,
					       "%s:%u: lun %s: a file cannot be shared by a "
					       "cluster; use a device or iSCSI",
					       file, config->luns[i].line, config->luns[i].name);
	for (uint32_t i = 0; i < config->pools_count; i++)
		if (config->pools[i].luns_count != 1 || !volume_of(config, i))
			return ferry_error_set(reterr, -EINVAL,
					       "%s:%u: pool %s: this version takes exactly one lun "
					       "and one volume in each pool",
					       file, config->pools[i].line, config->pools[i].name);
	return 0;
}

/* ---- A standalone agent's options as a configuration. ---- */

enum { TEXT_LINES_MAX = 64 };

struct text {
	char bytes[16384];
	size_t length;
	bool is_full;
	uint32_t lines; /* So far; which option each of them is, 0: of no single one. */
	enum option_number options[TEXT_LINES_MAX];
};

static void text_add(struct text *text, const char *format, ...) FERRY_PRINTF(2, 3);
static void text_add(struct text *text, const char *format, ...)
{
	size_t left = sizeof(text->bytes) - text->length;
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(text->bytes + text->length, left, format, list);
	va_end(list);
	if (length < 0 || (size_t)length >= left) {
		text->is_full = true;
		return;
	}
	for (const char *c = text->bytes + text->length; *c; c++)
		text->lines += *c == '\n';
	text->length += (size_t)length;
	text->is_full |= text->lines >= TEXT_LINES_MAX;
}

/* The line that was added last is @option's. */
static void text_is_of(struct text *text, enum option_number option)
{
	if (!text->is_full && text->lines > 0)
		text->options[text->lines - 1] = option;
}

/* An absolute path of something that may not be there yet. */
static int absolute(const char *path, char ret[PATH_MAX], struct ferry_error *reterr)
{
	char here[PATH_MAX];
	int length;

	if (strpbrk(path, "\n\r"))
		return ferry_error_set(reterr, -EINVAL, "a path with a line break");
	if (path[0] == '/')
		here[0] = '\0';
	else if (!getcwd(here, sizeof(here)))
		return ferry_error_set(reterr, -errno, "the working directory: %s",
				       strerror(errno));
	length = snprintf(ret, PATH_MAX, "%s%s%s", here, here[0] ? "/" : "", path);
	if (length >= PATH_MAX)
		return ferry_error_set(reterr, -ENAMETOOLONG, "%s: too long", path);
	return 0;
}

static int lun_text(struct text *text, const char *lun, struct ferry_error *reterr)
{
	char path[PATH_MAX];
	struct stat stat_of_lun;
	int r;

	if (strncmp(lun, "iscsi://", 8) == 0) {
		text_add(text, "iscsi = %s\n", lun);
		text_is_of(text, OPTION_LUN);
		return 0;
	}
	r = absolute(lun, path, reterr);
	if (r < 0)
		return r;
	if (stat(path, &stat_of_lun) < 0)
		return ferry_error_set(reterr, -errno, "%s: %s", path, strerror(errno));
	text_add(text, "%s = %s\n", S_ISBLK(stat_of_lun.st_mode) ? "device" : "file", path);
	text_is_of(text, OPTION_LUN);
	return 0;
}

static int nbd_text(struct text *text, const struct arguments *arguments,
		    struct ferry_error *reterr)
{
	char path[PATH_MAX];
	int r;

	if (arguments->nbd_count > 0)
		text_add(text, "[nbd]\n");
	for (uint32_t i = 0; i < arguments->nbd_count; i++) {
		if (strncmp(arguments->nbd[i], "unix:", 5) != 0) {
			text_add(text, "listen = %s\n", arguments->nbd[i]);
			text_is_of(text, OPTION_NBD);
			continue;
		}
		r = absolute(arguments->nbd[i] + 5, path, reterr);
		if (r < 0)
			return r;
		text_add(text, "listen = unix:%s\n", path);
		text_is_of(text, OPTION_NBD);
	}
	return 0;
}

/* The pool of one lun, and its volume. */
static void pool_text(struct text *text, const struct arguments *arguments)
{
	const char *name = argument(arguments, OPTION_NAME);

	text_add(text, "[pool standalone]\nluns = lun\n");
	if (argument(arguments, OPTION_CACHE))
		text_add(text, "exclusive = yes\n");
	text_add(text, "[volume %s]\n", name ? name : "volume");
	text_is_of(text, OPTION_NAME);
	text_add(text, "lun = lun\n");
	if (argument(arguments, OPTION_READ_ONLY))
		text_add(text, "read_only = yes\n");
}

static int standalone_text(struct text *text, const struct arguments *arguments,
			   struct ferry_error *reterr)
{
	static const struct {
		enum option_number number;
		const char *key;
	} agent_keys[] = {
		{OPTION_MEMORY, "memory"},
		{OPTION_PATH_TIMEOUT, "path_timeout"},
		{OPTION_HOLD_TIMEOUT, "hold_timeout"},
		{OPTION_LOG_LEVEL, "log_level"},
	};
	char path[PATH_MAX];
	int r;

	text_add(text, "[agent]\n");
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(agent_keys); i++) {
		if (!argument(arguments, agent_keys[i].number))
			continue;
		text_add(text, "%s = %s\n", agent_keys[i].key,
			 argument(arguments, agent_keys[i].number));
		text_is_of(text, agent_keys[i].number);
	}
	if (argument(arguments, OPTION_RUN_DIR)) {
		r = absolute(argument(arguments, OPTION_RUN_DIR), path, reterr);
		if (r < 0)
			return r;
		text_add(text, "run_dir = %s\n", path);
		text_is_of(text, OPTION_RUN_DIR);
	}
	if (argument(arguments, OPTION_CACHE)) {
		text_add(text, "[cache]\nsize = %s\n", argument(arguments, OPTION_CACHE));
		text_is_of(text, OPTION_CACHE);
	}
	text_add(text, "[lun lun]\n");
	r = lun_text(text, argument(arguments, OPTION_LUN), reterr);
	if (r < 0)
		return r;
	if (argument(arguments, OPTION_BLOCK_SIZE)) {
		text_add(text, "block_size = %s\n", argument(arguments, OPTION_BLOCK_SIZE));
		text_is_of(text, OPTION_BLOCK_SIZE);
	}
	pool_text(text, arguments);
	if (argument(arguments, OPTION_UBLK))
		text_add(text, "[ublk]\n");
	r = nbd_text(text, arguments, reterr);
	if (r < 0 || !argument(arguments, OPTION_FUSE))
		return r;
	r = absolute(argument(arguments, OPTION_FUSE), path, reterr);
	if (r < 0)
		return r;
	text_add(text, "[fuse]\nmount = %s\n", path);
	text_is_of(text, OPTION_FUSE);
	return 0;
}

#define TEXT_NAME "the options"

/* "the options:2: memory must be ...", the reader's words, as "--memory: must be ...". */
static void error_name_option(const struct text *text, struct ferry_error *error)
{
	char message[FERRY_ERROR_MESSAGE_MAX];
	const char *rest = message + strlen(TEXT_NAME ":");
	const char *name;
	unsigned long line;
	size_t length;
	char *end;

	memcpy(message, error->message, sizeof(message));
	if (strncmp(message, TEXT_NAME ":", strlen(TEXT_NAME ":")) != 0)
		return;
	line = strtoul(rest, &end, 10);
	rest = end + strspn(end, ": ");
	if (line == 0 || line > text->lines || text->options[line - 1] == 0) {
		(void)ferry_error_set(error, error->code, TEXT_NAME ": %s", rest);
		return;
	}
	name = options[text->options[line - 1] - OPTION_CONFIG].name;
	length = strcspn(rest, " ");
	/* The key says what the option said already: "path_timeout" is "path-timeout". */
	if (length == strlen(name) && rest[0] == name[0] && rest[length] == ' ')
		rest += length + 1;
	(void)ferry_error_set(error, error->code, "--%s: %s", name, rest);
}

static int standalone_read(struct ferry_settings *settings, const struct arguments *arguments,
			   struct ferry_error *reterr)
{
	static struct text text; /* Large; start-up has one thread. */
	int r;

	text = (struct text){0};
	r = standalone_text(&text, arguments, reterr);
	if (r < 0)
		return r;
	if (text.is_full)
		return ferry_error_set(reterr, -E2BIG, "the options are too long");
	r = ferry_inifile_parse(TEXT_NAME, text.bytes, text.length, &settings->config, reterr);
	if (r < 0 && reterr)
		error_name_option(&text, reterr);
	return r;
}

/* Over the file's. */
static int log_level_read(const struct arguments *arguments, struct ferry_config *config,
			  struct ferry_error *reterr)
{
	const char *level = argument(arguments, OPTION_LOG_LEVEL);
	struct ferry_error why;
	int r = level ? ferry_inifile_log_level(level, &config->log_level, &why) : 0;

	return r < 0 ? ferry_error_set(reterr, r, "--log-level: %s", why.message) : 0;
}

int ferry_settings_read(struct ferry_settings *settings, int argc, char **argv,
			struct ferry_error *reterr)
{
	struct arguments arguments = {0};
	const char *file;
	int r;

	ferry_assert(settings && argv);
	memset(settings, 0, sizeof(*settings));
	settings->action = FERRY_SETTINGS_RUN;
	settings->file = TEXT_NAME;
	r = arguments_read(&arguments, argc, argv, reterr);
	if (r < 0)
		return r;
	if (argument(&arguments, OPTION_HELP) || argument(&arguments, OPTION_VERSION)) {
		settings->action = argument(&arguments, OPTION_HELP) ? FERRY_SETTINGS_HELP
								     : FERRY_SETTINGS_VERSION;
		return 0;
	}
	r = arguments_check(&arguments, reterr);
	if (r < 0)
		return r;
	if (argument(&arguments, OPTION_CHECK))
		settings->action = FERRY_SETTINGS_CHECK;
	else if (argument(&arguments, OPTION_WITHDRAW))
		settings->action = FERRY_SETTINGS_WITHDRAW;
	settings->logs_to_syslog = argument(&arguments, OPTION_SYSLOG) != NULL;
	settings->is_standalone = argument(&arguments, OPTION_STANDALONE) != NULL;
	settings->has_control =
		!settings->is_standalone || argument(&arguments, OPTION_RUN_DIR) != NULL;
	settings->ignores_registrations = argument(&arguments, OPTION_DESPITE) != NULL;
	if (settings->is_standalone)
		return standalone_read(settings, &arguments, reterr);
	file = argument(&arguments, OPTION_CONFIG);
	if (!file)
		file = "/etc/ferry/ferryd.conf";
	settings->file = file;
	r = ferry_inifile_load(file, &settings->config, reterr);
	if (r == 0)
		r = log_level_read(&arguments, &settings->config, reterr);
	return r < 0 ? r : config_check(&settings->config, file, reterr);
}

/* ---- For the data thread. ---- */

/* The first line of a file that only its owner can read. */
static int password_read(const char *path, char ret[256], struct ferry_error *reterr)
{
	struct stat file;
	ssize_t length;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ferry_error_set(reterr, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &file) < 0 || (file.st_mode & 077)) {
		(void)close(fd);
		return ferry_error_set(reterr, -EPERM, "%s: others can read it: chmod 0600 %s",
				       path, path);
	}
	length = read(fd, ret, 255);
	(void)close(fd);
	if (length <= 0)
		return ferry_error_set(reterr, -EINVAL, "%s: empty or unreadable", path);
	ret[length] = '\0';
	ret[strcspn(ret, "\r\n")] = '\0';
	return 0;
}

static int chap_read(const struct ferry_settings *settings, const struct ferry_config_lun *lun,
		     char ret[256], struct ferry_error *reterr)
{
	struct ferry_error why;
	int r;

	r = password_read(lun->chap_password_file, ret, &why);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s:%u: [lun %s]: chap_password_file: %s",
				       settings->file, lun->line, lun->name, why.message);
	return 0;
}

const char *ferry_settings_warning(const struct ferry_settings *settings)
{
	const struct ferry_config *config = &settings->config;

	if (config->is_nbd || config->is_fuse || config->is_ublk)
		return NULL;
	return "neither [nbd] nor [fuse] nor [ublk]: no application on this node can reach a "
	       "volume; it only "
	       "carries I/O for others";
}

int ferry_settings_check_files(const struct ferry_settings *settings, struct ferry_error *reterr)
{
	const struct ferry_config *config = &settings->config;
	struct ferry_auth *auth = NULL;
	char password[256];
	int r = 0;

	if (!settings->is_standalone)
		r = ferry_auth_file_open(config->key_file, &auth, reterr);
	ferry_auth_file_close(auth);
	for (uint32_t i = 0; i < config->luns_count && r == 0; i++)
		if (config->luns[i].chap_password_file[0])
			r = chap_read(settings, &config->luns[i], password, reterr);
	explicit_bzero(password, sizeof(password));
	return r;
}

static void portal_text(const struct ferry_config_lun *lun, char *restrict ret, size_t size_bytes)
{
	bool is_v6 = strchr(lun->host, ':') != NULL;

	(void)snprintf(ret, size_bytes, is_v6 ? "[%s]:%u" : "%s:%u", lun->host, lun->port);
}

/* One name per node, whoever asks for it. */
static void initiator_text(const struct ferry_config_lun *lun, const char *node_name,
			   char ret[FERRY_CONFIG_IQN_BYTES])
{
	if (lun->initiator[0])
		memcpy(ret, lun->initiator, sizeof(lun->initiator));
	else
		(void)snprintf(ret, FERRY_CONFIG_IQN_BYTES, "iqn.2026-11.io.ferry:%.180s",
			       node_name);
}

static int lun_data(struct ferry_settings *settings, uint32_t index, const char *node_name,
		    struct ferry_data_lun *ret, struct ferry_error *reterr)
{
	const struct ferry_config_lun *lun = &settings->config.luns[index];
	int r;

	*ret = (struct ferry_data_lun){.block_bytes = lun->block_bytes,
				       .flush_scope = lun->flush_scope,
				       .laying = lun->laying,
				       .quiesce_time_ns = lun->quiesce_time_ns,
				       .wwid = lun->wwid[0] ? lun->wwid : NULL};
	if (lun->kind != FERRY_CONFIG_LUN_ISCSI) {
		ret->file = lun->path;
		return 0;
	}
	portal_text(lun, settings->portals[index], sizeof(settings->portals[index]));
	initiator_text(lun, node_name, settings->initiators[index]);
	if (lun->chap_password_file[0]) {
		r = chap_read(settings, lun, settings->passwords[index], reterr);
		if (r < 0)
			return r;
	}
	ret->iscsi_portal = settings->portals[index];
	ret->iscsi_target = lun->target;
	ret->iscsi_lun = (uint16_t)lun->target_lun;
	ret->iscsi_initiator = settings->initiators[index];
	ret->chap_user = lun->chap_user[0] ? lun->chap_user : NULL;
	ret->chap_password = lun->chap_user[0] ? settings->passwords[index] : NULL;
	return 0;
}

static int pool_data(struct ferry_settings *settings, uint32_t index, const char *node_name,
		     const char *cluster, struct ferry_data_pool *ret, struct ferry_error *reterr)
{
	const struct ferry_config *config = &settings->config;
	const struct ferry_config_pool *pool = &config->pools[index];
	const struct ferry_config_volume *volume = volume_of(config, index);
	char lineage[FERRY_CONFIG_NAME_BYTES + 300];
	int length;

	ferry_assert(pool->luns_count == 1 && volume); /* config_check() */
	length = snprintf(lineage, sizeof(lineage), "%s/%s", cluster ? cluster : "", pool->name);
	*ret = (struct ferry_data_pool){
		.name = pool->name,
		.volume = volume->name,
		.lineage = ferry_hash128(lineage, (size_t)length),
		.is_read_only = volume->is_read_only,
		.is_exclusive = pool->is_exclusive,
		.is_scratch = pool->is_scratch,
		.ignores_registrations = settings->ignores_registrations,
		.is_shared = cluster != NULL,
		.convict_failures = config->decision_failures,
		.convict_window_ns = config->decision_window_ns,
	};
	return lun_data(settings, pool->luns[0], node_name, &ret->lun, reterr);
}

static void listens_data(struct ferry_settings *settings, struct ferry_data_config *ret)
{
	const struct ferry_config *config = &settings->config;

	for (uint32_t i = 0; i < config->nbd_listens_count; i++) {
		const struct ferry_config_listen *listen = &config->nbd_listens[i];
		char *text = settings->listens[i];
		size_t size = sizeof(settings->listens[i]);

		if (listen->is_unix) {
			memcpy(text, "unix:", strlen("unix:"));
			memcpy(text + strlen("unix:"), listen->path, sizeof(listen->path));
		} else {
			(void)snprintf(text, size,
				       strchr(listen->tcp.address, ':') ? "tcp:[%s]:%u"
									: "tcp:%s:%u",
				       listen->tcp.address, listen->tcp.port);
		}
		ret->nbd_listen[i] = text;
	}
	ret->nbd_listen_count = config->nbd_listens_count;
	ret->nbd_allow_remote = true; /* The reader has checked what the administrator wrote. */
}

int ferry_settings_data(struct ferry_settings *settings, const char *node_name, const char *cluster,
			struct ferry_data_config *ret, struct ferry_error *reterr)
{
	const struct ferry_config *config = &settings->config;
	int r;

	ferry_assert(settings && node_name && ret);
	ferry_assert(config->pools_count > 0 && config->pools_count <= FERRY_SNAPSHOT_POOLS_MAX);
	*ret = (struct ferry_data_config){
		.pools_count = config->pools_count,
		.fuse_mount = config->is_fuse ? config->fuse_mountpoint : NULL,
		.fuse_is_single_file = settings->is_standalone,
		.is_ublk = config->is_ublk,
		.run_dir = config->run_dir,
		.memory_bytes = config->memory_bytes,
		.cache_bytes = config->cache_bytes,
		.path_timeout_ns = config->path_timeout_ns,
		.hold_timeout_ns = config->hold_timeout_ns,
		.transport = config->transport,
		.cluster = cluster,
	};
	for (uint32_t i = 0; i < config->pools_count; i++) {
		r = pool_data(settings, i, node_name, cluster, &ret->pools[i], reterr);
		if (r < 0)
			return r;
	}
	listens_data(settings, ret);
	return 0;
}
