/*
 * One pool on the cluster thread: what becomes of a wish. The group, the disk and the data thread
 * are the test's; whatever else the wiring would bring does nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "agent/cluster_internal.h"
#include "agent/settings.h"
#include "proto/stored.h"
#include "tests/sim/core_stand.h"

enum { SAID_MAX = 64 };

static struct stand stand;
static struct ferry_settings settings;
static struct ferry_cluster cluster;
static struct ferry_group group;
static struct cluster_pool *pool;
static struct ferry_group_message said[SAID_MAX]; /* Not heard by itself yet. */
static uint32_t said_count;
static uint32_t mails[FERRY_MAIL_STOPPED + 1]; /* To the data thread, by kind. */
static uint64_t tenure;			       /* Of the last SHOW. */
static uint64_t kept_epoch;		       /* On the disk, as this node's; 0: nothing. */
static uint32_t dones;
static int done_error;
static char done_why[FERRY_CONTROL_TEXT_BYTES];

/* ---- The wiring around it. ---- */

void ferry_log(enum ferry_severity severity, const char *format, ...)
{
	(void)severity;
	(void)format;
}

void ferry_mail_to_data(struct ferry_mailbox *mailbox, const struct ferry_mail *mail)
{
	(void)mailbox;
	assert_true((size_t)mail->kind < FERRY_ARRAY_COUNT(mails));
	mails[mail->kind]++;
	if (mail->kind == FERRY_MAIL_SHOW)
		tenure = mail->epoch.v;
}

int ferry_pacemaker_set(struct ferry_pacemaker *pacemaker, const char *name, const char *value,
			bool is_private)
{
	(void)pacemaker;
	(void)name;
	(void)value;
	(void)is_private;
	return 0;
}

static int load(struct ferry_store *self, const char *key, void *ret, size_t size_bytes)
{
	const struct ferry_stored_epoch kept = {.epoch = {kept_epoch},
						.owner = {1},
						.settled = {kept_epoch},
						.tenure = {kept_epoch - 1},
						.tenure_last = {kept_epoch}};

	(void)self;
	(void)key;
	if (kept_epoch == 0)
		return -ENOENT;
	assert_true(size_bytes >= FERRY_STORED_EPOCH_BYTES);
	ferry_stored_epoch_encode(&kept, ret);
	return FERRY_STORED_EPOCH_BYTES;
}

static int save(struct ferry_store *self, const char *key, const void *value, size_t length_bytes)
{
	(void)self;
	(void)key;
	(void)value;
	(void)length_bytes;
	return 0;
}

struct ferry_store *ferry_statefile_store(struct ferry_statefile *statefile)
{
	static const struct ferry_store_ops ops = {.name = "test", .load = load, .save = save};
	static struct ferry_store store = {.ops = &ops};

	(void)statefile;
	return &store;
}

void warden_fenced(struct cluster_pool *of, int error, const char *why)
{
	(void)of;
	(void)error;
	(void)why;
}

void warden_keys_read(struct cluster_pool *of, const struct ferry_mail *mail)
{
	(void)of;
	(void)mail;
}

void control_attached(struct cluster_pool *of, const struct ferry_mail *mail)
{
	cluster_pool_answer(&of->attaching, mail->error, NULL);
}

void cluster_nbddev_mail(struct cluster_pool *of, const struct ferry_mail *mail)
{
	of->nbddev_goes_on = mail->flag;
	of->is_nbddev_due = true; /* Till the test says that it is done. */
}

void cluster_nbddev_close(struct cluster_pool *of)
{
	(void)of;
}

const char *control_node_name(const struct ferry_cluster *of, struct ferry_node node)
{
	(void)of;
	(void)node;
	return "";
}

static int multicast(struct ferry_group *self, const void *bytes, size_t length_bytes)
{
	struct ferry_error error;

	(void)self;
	assert_true(said_count < SAID_MAX);
	return ferry_group_message_decode(bytes, length_bytes, &said[said_count++], &error);
}

static void on_event(struct ferry_events *events, const struct ferry_event *event)
{
	(void)events;
	(void)event;
}

static void request_done(struct ferry_control_request *request, int error, const char *why)
{
	(void)request;
	(void)snprintf(done_why, sizeof(done_why), "%s", why ? why : "");
	dones++;
	done_error = error;
}

/* ---- What happens to it. ---- */

static void echo(void)
{
	for (uint32_t i = 0; i < said_count; i++) {
		struct ferry_group_message message = said[i]; /* More may come. */

		ferry_ownership_message(&pool->ownership, group.self, &message);
	}
	said_count = 0;
}

static void hear(uint32_t from, enum ferry_group_type type, uint64_t epoch, uint32_t owner,
		 uint32_t flags)
{
	struct ferry_group_message message = {.type = type,
					      .flags = flags,
					      .pool = ferry_hash128("p", 1),
					      .epoch = {epoch},
					      .owner = {owner},
					      .ring = group.ring,
					      .incarnation = {1}};

	ferry_ownership_message(&pool->ownership, (struct ferry_node){from}, &message);
}

static void mail(struct ferry_mail it)
{
	cluster_pool_mail(pool, &it);
	echo();
}

/* A new ring, of nodes 1 to @count. */
static void ring_of(uint32_t count)
{
	group.ring++;
	cluster.members = (struct ferry_members){.nodes = {{1}, {2}, {3}}, .count = count};
	if (pool->is_open)
		ferry_ownership_members(&pool->ownership, &cluster.members);
	echo();
}

static void speak(uint64_t epoch, uint32_t owner, uint32_t flags)
{
	for (uint32_t node = 2; node <= cluster.members.count; node++)
		hear(node, FERRY_GROUP_STATE, epoch, owner, flags);
	echo();
}

/* Its claim comes true. */
static void serve(void)
{
	struct ferry_epoch epoch = pool->ownership.claimed;

	echo();
	mail((struct ferry_mail){.kind = FERRY_MAIL_DRAINED, .epoch = epoch});
	for (uint32_t node = 2; node <= cluster.members.count; node++)
		hear(node, FERRY_GROUP_ACK, epoch.v, 1, FERRY_GROUP_DRAINED);
	assert_int_equal(pool->ownership.phase, FERRY_OWNERSHIP_TAKING);
	mail((struct ferry_mail){.kind = FERRY_MAIL_TAKEN, .epoch = epoch});
	assert_int_equal(pool->ownership.phase, FERRY_OWNERSHIP_OWNING);
}

static struct ferry_control_request *request(void)
{
	static struct ferry_control_request asked;

	asked = (struct ferry_control_request){.deadline_ns = UINT64_MAX, .on_done = request_done};
	return &asked;
}

static int setup(void **state)
{
	static const struct ferry_group_ops ops = {.name = "test", .multicast = multicast};

	(void)state;
	stand_open(&stand);
	settings = (struct ferry_settings){0};
	(void)snprintf(settings.config.pools[0].name, sizeof(settings.config.pools[0].name), "p");
	settings.config.pools_count = 1;
	settings.config.path_timeout_ns = FERRY_NS_PER_S;
	group = (struct ferry_group){.ops = &ops,
				     .self = {1},
				     .nodes = ferry_members_of(3),
				     .is_quorate = true,
				     .ring = 100};
	cluster = (struct ferry_cluster){.settings = &settings,
					 .loop = &stand.loop.loop,
					 .group = &group,
					 .events = {.emit = on_event},
					 .self = {1},
					 .incarnation = {1},
					 .node_name = "n1",
					 .pools_count = 1,
					 .peers = {{.node = {2}}, {.node = {3}}},
					 .peers_count = 2};
	said_count = dones = 0;
	kept_epoch = 0;
	done_error = 1;
	memset(mails, 0, sizeof(mails));
	pool = &cluster.pools[0];
	cluster_pool_init(&cluster, 0);
	ring_of(3);
	mail((struct ferry_mail){.kind = FERRY_MAIL_OPENED, .flag = true});
	speak(0, 0, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cluster_pool_close(pool);
	stand_close(&stand);
	return 0;
}

/* ---- The tests. ---- */

static void own(void)
{
	cluster_pool_acquire(pool, request());
	serve();
	assert_int_equal(mails[FERRY_MAIL_SHOW], 1);
	mail((struct ferry_mail){.kind = FERRY_MAIL_SHOWN});
	assert_int_equal(dones, 1);
	assert_int_equal(done_error, 0);
}

/* A device of this node's last agent may be served again only if nobody else was in between. */
static void test_tenure_after_a_restart(void **state)
{
	static const struct {
		uint64_t kept, said;
		uint32_t owner;
		uint64_t tenure;
	} cases[] = {{5, 5, 1, 4}, {5, 6, 2, 7}, {0, 5, 2, 6}, {0, 0, 0, 1}};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cases); i++) {
		cluster_pool_close(pool);
		kept_epoch = cases[i].kept;
		cluster.incarnation.v++;
		cluster_pool_init(&cluster, 0);
		ring_of(3);
		mail((struct ferry_mail){.kind = FERRY_MAIL_OPENED, .flag = true});
		speak(cases[i].said, cases[i].owner, 0);
		cluster_pool_acquire(pool, request());
		serve();
		assert_int_equal(tenure, cases[i].tenure);
		/* It takes the pool anew, from itself. */
		mail((struct ferry_mail){.kind = FERRY_MAIL_PREEMPTED});
		tenure = 0;
		serve();
		assert_int_equal(tenure, cases[i].tenure);
	}
}

/* Its key is preempted while applications' I/O ends: it takes the pool anew, and still owns it. */
static void test_a_release_ends_with_the_ownership(void **state)
{
	(void)state;
	own();
	cluster_pool_release(pool, request());
	assert_int_equal(mails[FERRY_MAIL_HIDE], 1);
	mail((struct ferry_mail){.kind = FERRY_MAIL_PREEMPTED});
	assert_int_equal(pool->ownership.claimed.v, 2);
	serve();
	assert_int_equal(dones, 1);
	assert_true(pool->is_releasing);
	assert_int_equal(mails[FERRY_MAIL_SHOW], 1);
	assert_string_equal(pool->reason, "releasing");
	mail((struct ferry_mail){.kind = FERRY_MAIL_HIDDEN});
	assert_int_equal(dones, 2);
	assert_int_equal(done_error, 0);
	assert_false(pool->is_releasing);
	assert_int_equal(pool->ownership.phase, FERRY_OWNERSHIP_IDLE);
	assert_int_equal(pool->ownership.view.owner.v, 0);
}

/* Another is to have it: that is the end of a release too. */
static void test_a_release_ends_with_another_owner(void **state)
{
	(void)state;
	own();
	cluster_pool_release(pool, request());
	hear(2, FERRY_GROUP_CLAIM, 2, 2, 0);
	assert_int_equal(dones, 2);
	assert_int_equal(done_error, -ESTALE);
	assert_false(pool->is_releasing);
}

/* The others have not spoken in this ring; what is known of it is still that node 2 serves. */
static void test_acquire_in_a_new_ring(void **state)
{
	(void)state;
	hear(2, FERRY_GROUP_CLAIM, 1, 2, 0);
	hear(2, FERRY_GROUP_IN_FORCE, 1, 2, 0);
	ring_of(2);
	assert_false(pool->ownership.view.is_quorate);
	cluster_pool_acquire(pool, request());
	assert_int_equal(dones, 1);
	assert_int_equal(done_error, -EPERM);
	assert_null(pool->acquiring);
	speak(1, 2, FERRY_GROUP_IS_IN_FORCE);
	assert_int_equal(pool->ownership.claimed.v, 0);
}

/* A person's word goes with the wish: for the cluster's nodes, as far as they are missing. */
static void test_force_goes_with_its_nodes(void **state)
{
	struct ferry_control_request *asked = request();

	(void)state;
	ring_of(2);
	speak(0, 0, 0);
	asked->nodes = (struct ferry_members){.nodes = {{2}, {9}}, .count = 2};
	cluster_pool_force(pool, asked);
	assert_int_equal(dones, 1);
	assert_int_equal(done_error, -EPERM); /* Node 3 is not among them. */
	assert_string_equal(done_why, "node 3 has not answered either");
	asked = request();
	asked->nodes = (struct ferry_members){.nodes = {{3}, {9}, {2}, {3}}, .count = 4};
	cluster_pool_force(pool, asked);
	assert_int_equal(dones, 1);
	assert_int_equal(pool->ownership.answered_for.count, 1);
	assert_int_equal(pool->ownership.answered_for.nodes[0].v, 3);
	ring_of(1);
	assert_int_equal(dones, 2);
	assert_int_equal(done_error, -EPERM);
}

/* Who waits is told for whom. */
static void test_the_missing_are_named(void **state)
{
	static const struct ferry_members both = {.nodes = {{2}, {3}}, .count = 2};
	struct ferry_control_request *asked = request();

	(void)state;
	group.is_quorate = false;
	ring_of(1);
	cluster_pool_acquire(pool, asked);
	assert_int_equal(dones, 0);
	cluster_pool_cancelled(pool, asked);
	assert_int_equal(done_error, -ETIMEDOUT);
	assert_string_equal(done_why, "waits for quorum: the agents of node 2, node 3 are missing; "
				      "withdrawn");
	asked = request();
	asked->nodes = both;
	cluster_pool_force(pool, asked);
	assert_int_equal(done_error, -EPERM);
	assert_string_equal(done_why, "2 of 3 agents are needed, 1 here; missing: node 2, node 3");
}

/* Its device of the kernel's NBD client is settled before who waits for the volume goes on. */
static void test_nbddev_comes_first(void **state)
{
	(void)state;
	cluster_pool_acquire(pool, request());
	serve();
	mail((struct ferry_mail){.kind = FERRY_MAIL_NBDDEV, .flag = true});
	assert_true(pool->nbddev_goes_on);
	mail((struct ferry_mail){.kind = FERRY_MAIL_SHOWN});
	assert_int_equal(dones, 0);
	assert_false(pool->is_shown);
	pool->is_nbddev_due = false;
	cluster_pool_nbddev_done(pool);
	assert_int_equal(dones, 1);
	assert_true(pool->is_shown);
	cluster_pool_release(pool, request());
	mail((struct ferry_mail){.kind = FERRY_MAIL_NBDDEV});
	mail((struct ferry_mail){.kind = FERRY_MAIL_HIDDEN});
	assert_true(pool->is_shown);
	assert_int_equal(dones, 1);
	pool->is_nbddev_due = false;
	cluster_pool_nbddev_done(pool);
	assert_false(pool->is_shown);
}

/* Whoever asks next does not get the answer that is still on its way to who has gone. */
static void test_an_answer_to_who_has_gone(void **state)
{
	const struct ferry_mail answer = {.kind = FERRY_MAIL_ATTACHED};
	struct ferry_control_request *asked = request();

	(void)state;
	assert_int_equal(cluster_pool_attach(pool, asked, FERRY_MAIL_ATTACH), 0);
	assert_int_equal(mails[FERRY_MAIL_ATTACH], 1);
	cluster_pool_cancelled(pool, asked);
	assert_int_equal(done_error, -ECANCELED);
	asked = request();
	assert_int_equal(cluster_pool_attach(pool, asked, FERRY_MAIL_DETACH), -EBUSY);
	cluster_pool_mail(pool, &answer);
	assert_int_equal(dones, 1);
	assert_int_equal(cluster_pool_attach(pool, asked, FERRY_MAIL_DETACH), 0);
	cluster_pool_mail(pool, &answer);
	assert_int_equal(dones, 2);
	assert_int_equal(done_error, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_tenure_after_a_restart),
		TEST(test_a_release_ends_with_the_ownership),
		TEST(test_a_release_ends_with_another_owner),
		TEST(test_acquire_in_a_new_ring),
		TEST(test_force_goes_with_its_nodes),
		TEST(test_the_missing_are_named),
		TEST(test_an_answer_to_who_has_gone),
		TEST(test_nbddev_comes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
