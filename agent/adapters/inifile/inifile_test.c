#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/inifile/inifile.h"

static struct ferry_config config;

static int read_text(const char *text, struct ferry_error *error)
{
	*error = (struct ferry_error){0};
	return ferry_inifile_parse("f.conf", text, strlen(text), &config, error);
}

/* What is good before the line that is bad: so that each case fails for its own reason only. */
#define LUN "[lun a]\ndevice = /dev/sda\n"
#define POOL LUN "[pool p]\nluns = a\n"
#define TEN "aaaaaaaaaa"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define ISCSI "iscsi://h/iqn.2026-01.org.example:d/"

static const struct bad {
	const char *text;
	unsigned line;
	const char *message;
} bads[] = {
	/* Lines. */
	{"listen = 192.0.2.1\n", 1, "before the first section"},
	{"[agent]\nnonsense\n", 2, "expected: key = value"},
	{"[agent]\nlog_level: info\n", 2, "expected: key = value"},
	{"[agent]\n= info\n", 2, "a key is missing"},
	{"[agent]\nlog_level =\n", 2, "log_level has no value"},
	{"[agent]\nlog_level = ; info\n", 2, "log_level has no value"},
	{"[agent]\n\n# x\nlog_level = info\nlog_level = info\n", 5, "log_level is there twice"},
	{"[agent]\nlog_level = in\001fo\n", 2, "a control character (byte 1)"},
	{"[agent]\nstate_dir = /" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED
		 HUNDRED HUNDRED "\n",
	 2, "longer than 1000 bytes"},
	/* Sections. */
	{"[agent\n", 1, "ends with ]"},
	{"[agent] x\n", 1, "nothing may follow"},
	{"[agents]\n", 1, "unknown section [agents]"},
	{"[agent]\nlog_level = info\n[cache]\n[agent]\n", 4, "already, at line 1"},
	{"[lun]\n", 1, "[lun NAME] needs a name"},
	{"[lun A]\n", 1, "[lun NAME] needs a name"},
	{"[lun a_b]\n", 1, "[lun NAME] needs a name"},
	{"[volume " TEN TEN TEN "aa]\n", 1, "[volume NAME] needs a name"},
	{LUN "[lun a]\n", 3, "there is a [lun a] already"},
	{"\n[nbd ]x\n", 2, "nothing may follow"},
	/* Keys and their values. */
	{"[agent]\nstate_di = /x\n", 2, "unknown key state_di; this section has: state_dir, run_"},
	{"[cache]\nmemory = 64M\n", 2, "unknown key memory; this section has: size"},
	{"[agent]\nstate_dir = var\n", 2, "state_dir must be an absolute path, not var"},
	{"[agent]\nstate_dir = //.//\n", 2, "must not be the root"},
	{"[agent]\nstate_dir = /a/../b\n", 2, "must not have .."},
	{"[agent]\nrun_dir = /" TEN TEN TEN TEN TEN TEN TEN "\n", 2, "too long; at most 63 bytes"},
	{"[agent]\nlisten = node1:7077\n", 2, "numeric address"},
	{"[agent]\nlisten = 192.0.2.1:0\n", 2, "numeric address"},
	{"[agent]\nlisten = 192.0.2.1:65536\n", 2, "numeric address"},
	{"[agent]\nlisten = [2001:db8::1\n", 2, "numeric address"},
	{"[agent]\nlisten = 192.0.2.256\n", 2, "numeric address"},
	{"[agent]\nlog_level = verbose\n", 2, "one of debug, info"},
	{"[agent]\ntransport = roce\n", 2, "transport must be auto, rdma or tcp"},
	{"[agent]\npath_timeout = 5\n", 2, "with its unit, such as 500ms, 5s or 2m, not 5"},
	{"[agent]\npath_timeout = 1.5s\n", 2, "whole number"},
	{"[agent]\npath_timeout = -5s\n", 2, "whole number"},
	{"[agent]\npath_timeout = 99ms\n", 2, "from 100ms to 60s"},
	{"[agent]\npath_timeout = 61s\n", 2, "from 100ms to 60s"},
	{"[agent]\npath_timeout = 99999999999999999999s\n", 2, "whole number"},
	{"[agent]\nhold_timeout = 18446744073709551615m\n", 2, "whole number"},
	{"\n[agent]\npath_timeout = 10s\nhold_timeout = 9s\n", 2, "less than path_timeout"},
	{"[agent]\nmemory = 64\n", 2, "with its unit, such as 512K"},
	{"[agent]\nmemory = 64MB\n", 2, "with its unit"},
	{"[agent]\nmemory = 64M # a lot\n", 2, "not 64M # a lot"},
	{"[agent]\nmemory = 4M\n", 2, "from 8M to 16384M"},
	{"[agent]\nmemory = 8193K\n", 2, "multiple of 64K"},
	{"[cache]\nsize = 65G\n", 2, "from 0M to 65536M"},
	{"[decision]\nmode = sprt\n", 2, "count or off"},
	{"[decision]\nfailures = 0\n", 2, "from 1 to 32"},
	{"[decision]\nwindow = 2h\n", 2, "whole number with its unit"},
	{"[pacemaker]\npublish = true\n", 2, "must be yes or no, not true"},
	{"[pacemaker]\nattribute = a b\n", 2, "letters, digits"},
	{"[pacemaker]\npower_agent = fence_ferry\n", 2, "fence_ferry cuts no power"},
	{"[pacemaker]\npower_agent = fence_scsi\n", 2, "fence_scsi cuts no power"},
	{"[pacemaker]\npower_agent = fence_mpath\n", 2, "fence_mpath cuts no power"},
	{"[pacemaker]\npower_agent = fence_kdump\n", 2, "fence_kdump cuts no power"},
	{"[pacemaker]\npower_agent = fence_sbd\n", 2, "fence_sbd cuts no power"},
	{"[pacemaker]\npower_agent = fence_watchdog\n", 2, "fence_watchdog cuts no power"},
	{"[pacemaker]\npower_agent = fence_a, fence_b\n", 2, "one fence agent"},
	{"[nbd]\nlisten = /run/x\n", 2, "unix:PATH or tcp:ADDRESS:PORT"},
	{"[nbd]\nlisten = tcp:127.0.0.1\n", 2, "unix:PATH or tcp:ADDRESS:PORT"},
	{"[nbd]\nlisten = unix:/" HUNDRED TEN "\n", 2, "the socket is too long; at most 107"},
	{"[nbd]\nlisten = unix:/a\nlisten = unix://a\n", 3, "is there already"},
	{"[nbd]\nlisten=unix:/a\nlisten=unix:/b\nlisten=unix:/c\nlisten=unix:/d\nlisten=unix:/e\n",
	 6, "at most 4 times"},
	/* Peers. */
	{"[peer x]\naddress = 192.0.2.1\n[nbd]\n", 1, "[peer x] has no node_id"},
	{"[peer x]\nnode_id = 4294967296\n", 2, "from 1 to 4294967295"},
	{"[peer 0]\n", 1, "a node id is from 1"},
	{"[peer 3]\nnode_id = 4\n", 1, "[peer 3] has node_id = 4"},
	{"[peer 3]\naddress = x\n", 2, "numeric address"},
	{"[peer 3]\nport = 0\n", 2, "from 1 to 65535"},
	{"[peer 3]\n[peer x]\nnode_id = 3\n", 2, "[peer x] has the node id of [peer 3]: 3"},
	{"[peer 3]\naddress=::1\n[peer 4]\naddress=0::1\n", 3, "has the address of [peer 3]"},
	/* Luns. */
	{"\n[lun a]\n", 2, "[lun a] has no device, file or iscsi"},
	{LUN "iscsi = " ISCSI "1\n", 3, "one of device, file and iscsi"},
	{LUN "chap_user = u\n", 1, "chap_user, which only an iscsi lun may have"},
	{"[lun a]\niscsi = " ISCSI "1\nchap_user = u\n", 1, "has no chap_password_file"},
	{"[lun a]\niscsi = " ISCSI "1\nchap_password_file = /p\n", 1, "has no chap_user"},
	{"[lun a]\nlaying = prayer\n", 2, "one of abort, reset"},
	{"[lun a]\niscsi = " ISCSI "1\nlaying = quiesce\n", 1, "has no quiesce_time"},
	{LUN "laying = quiesce\n", 1, "has no quiesce_time"},
	{LUN "laying = reset\n", 1, "abort or quiesce"},
	{LUN "laying = reinstate\nquiesce_time = 30s\n", 1, "abort or quiesce"},
	{"[lun a]\nfile = /a\nlaying = abort\n", 1, "laying, but a file has no reservations"},
	{"[lun a]\nfile = /a\nquiesce_time = 30s\n", 1, "quiesce_time, but a file"},
	{"[lun a]\niscsi = iscsi://u%p@h/iqn.2026-01.org.example:d/1\n", 2, "no user or password"},
	{"[lun a]\niscsi = tcp://h/iqn.2026-01.org.example:d/1\n", 2, "iscsi://HOST[:PORT]"},
	{"[lun a]\niscsi = " ISCSI "\n", 2, "iscsi://HOST[:PORT]"},
	{"[lun a]\niscsi = " ISCSI "16384\n", 2, "iscsi://HOST[:PORT]"},
	{"[lun a]\niscsi = iscsi://h:99999/iqn.2026-01.org.example:d/1\n", 2, "iscsi://HOST"},
	{"[lun a]\niscsi = iscsi://h/disk/1\n", 2, "iscsi://HOST[:PORT]"},
	{"[lun a]\niscsi = iscsi:///iqn.2026-01.org.example:d/1\n", 2, "iscsi://HOST[:PORT]"},
	{"[lun a]\ninitiator = node1\n", 2, "must be an iSCSI name"},
	{LUN "block_size = 1024\n", 3, "512 or 4096"},
	{LUN "block_size = 4K\n", 3, "512 or 4096"},
	{LUN "\n[lun b]\nfile = //dev/./sda\n", 4, "is the same lun as [lun a] at line 1"},
	{"[lun a]\niscsi = " ISCSI "1\n[lun b]\niscsi = iscsi://H:3260/IQN.2026-01.org.example:D/1",
	 3, "same lun as [lun a]"},
	{LUN "wwid = naa.1\n[lun b]\nfile = /b\nwwid = naa.1\n", 4, "same lun as [lun a]"},
	/* Pools and volumes. */
	{LUN "[pool p]\n", 3, "[pool p] has no luns"},
	{LUN "[pool p]\nluns = ,\n", 4, "names no lun"},
	{LUN "[pool p]\nluns = a, b\n", 4, "there is no [lun b]"},
	{LUN "[pool p]\nluns = a a\n", 4, "lun a is in [pool p] already"},
	{POOL "[pool q]\nluns = a\n", 6, "lun a is in [pool p] already"},
	{LUN "[nbd]\n", 1, "[lun a] is in no pool"},
	{POOL "[volume v]\n", 5, "[volume v] has no lun"},
	{POOL "[volume v]\nlun = b\n", 6, "there is no [lun b]"},
	{POOL "[volume v]\npool = q\n", 6, "there is no [pool q]"},
	{POOL "[volume v]\nlun = a\n\n[volume w]\npool = p\n", 8, "is on the lun of [volume v]"},
	{POOL "[lun b]\nfile = /b\n[pool q]\nluns = b\n[volume v]\nlun = a\npool = q\n", 11,
	 "lun a is not in pool q"},
	{POOL "[lun b]\nfile=/b\n[lun c]\nfile=/c\n[pool q]\nluns = b,c\n[volume v]\npool = q\n",
	 12, "has several luns"},
};
_Static_assert(FERRY_ARRAY_COUNT(bads) >= 40, "a table worth its name");

static void bad_inputs(void **state)
{
	struct ferry_error error;
	char prefix[32];

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(bads); i++) {
		const struct bad *bad = &bads[i];
		int r;

		memset(&config, 0xa5, sizeof(config));
		r = read_text(bad->text, &error);
		(void)snprintf(prefix, sizeof(prefix), "f.conf:%u: ", bad->line);
		if (r != -EINVAL || error.code != -EINVAL ||
		    strncmp(error.message, prefix, strlen(prefix)) != 0 ||
		    !strstr(error.message, bad->message))
			fail_msg("%zu: expected %s...%s..., got %d %s for:\n%.300s", i, prefix,
				 bad->message, r, error.message, bad->text);
		/* Outputs are not written on failure. */
		assert_int_equal(((const unsigned char *)&config)[0], 0xa5);
	}
}

static void empty_is_defaults(void **state)
{
	static struct ferry_config defaults;
	struct ferry_error error;

	(void)state;
	ferry_config_defaults(&defaults);
	assert_int_equal(read_text("", &error), 0);
	assert_memory_equal(&config, &defaults, sizeof(config));
	assert_int_equal(read_text("\xef\xbb\xbf# only a comment, and no end of line", &error), 0);
	assert_memory_equal(&config, &defaults, sizeof(config));
	/* What a section's presence turns on, and what depends on run_dir. */
	assert_int_equal(read_text("[nbd]\n[fuse]\n[agent]\nrun_dir=/run/f2\n", &error), 0);
	assert_true(config.is_nbd && config.is_fuse && !config.is_ublk);
	assert_int_equal(config.nbd_listens_count, 1);
	assert_string_equal(config.nbd_listens[0].path, "/run/f2/nbd.sock");
	assert_string_equal(config.fuse_mountpoint, "/run/f2/volumes");
	assert_int_equal(read_text("[ublk]\n", &error), 0);
	assert_true(config.is_ublk && !config.is_fuse);
}

static const char full_text[] =
	"; everything, with blanks, tabs, CRLF and references to what comes later\r\n"
	"[agent]\r\n"
	"\tstate_dir = /srv/ferry//state/\r\n"
	"  run_dir=/run/f\n"
	"key_file = /etc/ferry/key\n"
	"listen = [2001:DB8::0:1]:7078 ; inline\n"
	"log_level = debug\npath_timeout = 500ms\nhold_timeout = 2m\nquorum_timeout = 10s\n"
	"memory = 1G\ntransport = tcp\n"
	"[cache]\nsize = 0\n"
	"[decision]\nmode = off\nfailures = 5\nwindow = 30s\n"
	"[pacemaker]\npublish = no\nattribute = my-path\n"
	"power_agent = fence_ipmilan\npower_agent = fence_lab\n"
	"[nbd]\nlisten = tcp:[::1]:10809\nlisten = unix:/run/f/n.sock\n"
	"[fuse]\nmount = /mnt/f\n"
	"[peer n2]\nnode_id = 2\naddress = 192.0.2.2\nport = 9999\n"
	"[peer 7]\n"
	"[volume v1]\nlun = l1\nread_only = yes\n"
	"[volume v2]\npool = p2\n"
	"[pool p1]\nluns = l1, l3\nexclusive = yes\nscratch = yes\n"
	"[pool p2]\nluns = l2\n"
	"[lun l1]\niscsi = iscsi://Storage.example:3261/iqn.2026-01.org.Example:d/5\n"
	"initiator = iqn.2026-01.org.example:n1\nchap_user = u\nchap_password_file = /etc/p\n"
	"wwid = naa.6001405\nblock_size = 4096\nflush_scope = path\n"
	"laying = quiesce\nquiesce_time = 45s\n"
	"[lun l2]\ndevice = /dev/disk/by-id/x\n"
	"[lun l3]\nfile = /srv/img\n";

static void full_file(void **state)
{
	struct ferry_error error;
	int r = read_text(full_text, &error);

	(void)state;
	if (r < 0)
		fail_msg("%s", error.message);
	assert_string_equal(config.state_dir, "/srv/ferry/state");
	assert_string_equal(config.listen.address, "2001:db8::1");
	assert_int_equal(config.listen.port, 7078);
	assert_int_equal(config.log_level, FERRY_SEVERITY_DEBUG);
	assert_int_equal(config.transport, FERRY_CONFIG_TRANSPORT_TCP);
	assert_int_equal(config.path_timeout_ns, 500 * FERRY_NS_PER_MS);
	assert_int_equal(config.hold_timeout_ns, 120 * FERRY_NS_PER_S);
	assert_int_equal(config.quorum_timeout_ns, 10 * FERRY_NS_PER_S);
	assert_int_equal(config.memory_bytes, 1024 * FERRY_MIB);
	assert_int_equal(config.cache_bytes, 0);
	assert_int_equal(config.decision, FERRY_CONFIG_DECISION_OFF);
	assert_int_equal(config.decision_failures, 5);
	assert_int_equal(config.decision_window_ns, 30 * FERRY_NS_PER_S);
	assert_false(config.is_published);
	assert_string_equal(config.attribute, "my-path");
	assert_int_equal(config.power_agents_count, 2);
	assert_string_equal(config.power_agents[1], "fence_lab");
	assert_int_equal(config.nbd_listens_count, 2);
	assert_string_equal(config.nbd_listens[0].tcp.address, "::1");
	assert_int_equal(config.nbd_listens[0].tcp.port, 10809);
	assert_string_equal(config.nbd_listens[1].path, "/run/f/n.sock");
	assert_string_equal(config.fuse_mountpoint, "/mnt/f");
	assert_int_equal(config.peers_count, 2);
	assert_int_equal(config.peers[0].node.v, 2);
	assert_int_equal(config.peers[0].endpoint.port, 9999);
	assert_int_equal(config.peers[1].node.v, 7);
	assert_int_equal(config.peers[1].endpoint.port, FERRY_CONFIG_PORT_DEFAULT);
	assert_string_equal(config.peers[1].endpoint.address, "");
}

static void full_file_storage(void **state)
{
	const struct ferry_config_lun *lun = &config.luns[0];
	struct ferry_error error;

	(void)state;
	assert_int_equal(read_text(full_text, &error), 0);
	assert_int_equal(config.luns_count, 3);
	assert_int_equal(lun->kind, FERRY_CONFIG_LUN_ISCSI);
	assert_string_equal(lun->host, "storage.example");
	assert_int_equal(lun->port, 3261);
	assert_string_equal(lun->target, "iqn.2026-01.org.example:d");
	assert_int_equal(lun->target_lun, 5);
	assert_string_equal(lun->initiator, "iqn.2026-01.org.example:n1");
	assert_string_equal(lun->chap_user, "u");
	assert_string_equal(lun->chap_password_file, "/etc/p");
	assert_int_equal(lun->laying, FERRY_LAYING_QUIESCE);
	assert_int_equal(lun->quiesce_time_ns, 45 * FERRY_NS_PER_S);
	assert_string_equal(lun->wwid, "naa.6001405");
	assert_int_equal(lun->block_bytes, 4096);
	assert_int_equal(lun->flush_scope, FERRY_FLUSH_SCOPE_PATH);
	assert_int_equal(config.luns[1].flush_scope, 0);
	assert_int_equal(config.luns[1].kind, FERRY_CONFIG_LUN_DEVICE);
	assert_int_equal(config.luns[2].kind, FERRY_CONFIG_LUN_FILE);
	assert_int_equal(config.pools_count, 2);
	assert_int_equal(config.pools[0].luns_count, 2);
	assert_int_equal(config.pools[0].luns[1], 2);
	assert_true(config.pools[0].is_exclusive);
	assert_false(config.pools[1].is_exclusive);
	assert_true(config.pools[0].is_scratch);
	assert_false(config.pools[1].is_scratch);
	assert_int_equal(config.luns[1].pool, 1);
	assert_int_equal(config.volumes_count, 2);
	assert_int_equal(config.volumes[0].lun, 0);
	assert_int_equal(config.volumes[0].pool, 0);
	assert_true(config.volumes[0].is_read_only);
	assert_int_equal(config.volumes[1].lun, 1);
	assert_int_equal(config.volumes[1].pool, 1);
}

/* One more of each than there is room for is refused, and nothing is written beyond. */
static void too_many(void **state)
{
	static char text[64 * 1024];
	struct ferry_error error;
	size_t length = 0;

	(void)state;
	for (int i = 0; i <= FERRY_CONFIG_LUNS_MAX; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length,
					   "[lun l%d]\nfile = /l%d\n", i, i);
	assert_int_equal(read_text(text, &error), -EINVAL);
	assert_non_null(strstr(error.message, "f.conf:129: more than 64 [lun] sections"));
	length = 0;
	for (int i = 1; i <= FERRY_CONFIG_PEERS_MAX + 1; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "[peer %d]\n", i);
	assert_int_equal(read_text(text, &error), -EINVAL);
	assert_non_null(strstr(error.message, "f.conf:32: more than 31 [peer] sections"));
}

static void files(void **state)
{
	char path[] = "/tmp/ferry-inifile-XXXXXX";
	static char large[FERRY_INIFILE_BYTES_MAX + 1];
	struct ferry_error error = {0};
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "[agent]\nx=1\n", 12), 12);
	assert_int_equal(ferry_inifile_load(path, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, path));
	assert_non_null(strstr(error.message, ":2: unknown key x"));
	memset(large, '\n', sizeof(large));
	assert_int_equal(pwrite(fd, large, sizeof(large), 0), (ssize_t)sizeof(large));
	assert_int_equal(ferry_inifile_load(path, &config, &error), -EFBIG);
	(void)close(fd);
	(void)unlink(path);
	assert_int_equal(ferry_inifile_load(path, &config, &error), -ENOENT);
	assert_non_null(strstr(error.message, path));
	assert_int_equal(ferry_inifile_load("/", &config, &error), -EISDIR);
}

static void example_parses(void **state)
{
	struct ferry_error error = {0};

	(void)state;
	if (ferry_inifile_load(FERRY_EXAMPLE, &config, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(config.volumes_count, 2);
	assert_int_equal(config.peers_count, 2);
	assert_int_equal(config.nbd_listens_count, 2);
}

/* What the example shows as defaults, commented out, are the defaults. */
static void example_tells_defaults(void **state)
{
	static struct ferry_config defaults;
	static char text[FERRY_INIFILE_BYTES_MAX];
	struct ferry_error error = {0};
	FILE *file = fopen(FERRY_EXAMPLE, "re");
	char line[256];
	size_t length = 0;

	(void)state;
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) && strncmp(line, "# Front ends", 12) != 0) {
		bool is_shown = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z' &&
				strncmp(line, "#listen", 7) != 0;

		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s",
					   is_shown ? line + 1 : line);
	}
	(void)fclose(file);
	if (read_text(text, &error) < 0)
		fail_msg("%s", error.message);
	ferry_config_defaults(&defaults);
	assert_memory_equal(&config, &defaults, sizeof(config));
}

static void log_levels(void **state)
{
	enum ferry_severity level = FERRY_SEVERITY_NOTICE;
	struct ferry_error error;

	(void)state;
	assert_int_equal(ferry_inifile_log_level("loud", &level, &error), -EINVAL);
	assert_non_null(strstr(error.message, "one of debug, info"));
	assert_int_equal(level, FERRY_SEVERITY_NOTICE);
	assert_int_equal(ferry_inifile_log_level("error", &level, &error), 0);
	assert_int_equal(level, FERRY_SEVERITY_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_inputs),	  cmocka_unit_test(empty_is_defaults),
		cmocka_unit_test(full_file),	  cmocka_unit_test(full_file_storage),
		cmocka_unit_test(too_many),	  cmocka_unit_test(files),
		cmocka_unit_test(example_parses), cmocka_unit_test(example_tells_defaults),
		cmocka_unit_test(log_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
