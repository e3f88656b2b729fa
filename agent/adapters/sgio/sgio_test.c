/*
 * The adapter against a model of a target: the ioctl is the test's, with nexuses by descriptor.
 * What real targets do, tests/vm asks the kernel's.
 */
#include "agent/adapters/sgio/sgio.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/sgio/private.h"
#include "agent/adapters/uring/loop.h"

enum { DISKS = 2, KEYS_MAX = 8, DEADLINE_S = 60 };

/* The model: one lun. The thread's, while it walks; the lock is for what the test changes then. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int disks[DISKS];
	uint64_t registered[DISKS]; /* By our paths. */
	uint64_t others[KEYS_MAX];
	uint64_t holder;
	uint32_t generation;
	bool has_none;	  /* ILLEGAL REQUEST, whatever is asked. */
	bool forgets;	  /* No APTPL. */
	bool hangs_abort; /* PREEMPT AND ABORT waits. */
	bool was_faster;  /* Another preempts the same one, between our query and our command. */
	bool is_hanging;
	bool is_dead[DISKS]; /* That path: DID_NO_CONNECT. */
	bool is_mute[DISKS]; /* That path: DID_TIME_OUT, after it was executed. */
	uint32_t attentions; /* Due. */
	bool is_reset;	     /* Of that kind; else of registrations. */
	uint32_t aborts;
	uint32_t resets;
	bool is_untrue;
	uint64_t quiesce_time_ns;
	enum ferry_laying_way laying; /* As configured. */
	bool refuses_reset;
	uint8_t register_flags;
	uint32_t preempted_after; /* So many registrations another preempts all of ours. */
} lun;

static uint64_t get_u64(const uint8_t *data)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | data[i];
	return value;
}

static void put_u64(uint8_t *data, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		data[i] = (uint8_t)(value >> (56 - 8 * i));
}

static void sense(struct sg_io_hdr *header, uint8_t key, uint8_t asc, uint8_t ascq)
{
	const uint8_t bytes[] = {0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0};

	header->status = 0x02;
	header->driver_status = 0x08;
	assert_true(header->mx_sb_len >= sizeof(bytes));
	memcpy(header->sbp, bytes, sizeof(bytes));
	header->sb_len_wr = sizeof(bytes);
}

static void model_in(struct sg_io_hdr *header)
{
	uint8_t answer[8 + 8 * KEYS_MAX + 8 * DISKS] = {};
	uint8_t *keys = answer + 8;

	put_u64(answer, (uint64_t)lun.generation << 32);
	switch (header->cmdp[1]) {
	case 0:
		for (int i = 0; i < DISKS; i++)
			if (lun.registered[i]) {
				put_u64(keys, lun.registered[i]);
				keys += 8;
			}
		for (int i = 0; i < KEYS_MAX; i++)
			if (lun.others[i]) {
				put_u64(keys, lun.others[i]);
				keys += 8;
			}
		answer[7] = (uint8_t)(keys - answer - 8);
		break;
	case 1:
		if (lun.holder) {
			answer[7] = 16;
			put_u64(answer + 8, lun.holder);
			answer[21] = 5;
		}
		break;
	case 2:
		memset(answer, 0, 8);
		answer[1] = 8;
		answer[2] = lun.forgets ? 0 : 1;
		answer[3] = 0x80;
		answer[4] = 0x20;
		break;
	default:
		fail();
	}
	assert_true(header->dxfer_direction == SG_DXFER_FROM_DEV);
	memcpy(header->dxferp, answer,
	       header->dxfer_len < sizeof(answer) ? header->dxfer_len : sizeof(answer));
}

static bool model_is_registered(uint64_t key)
{
	for (int i = 0; i < KEYS_MAX; i++)
		if (key != 0 && lun.others[i] == key)
			return true;
	return false;
}

static void model_unregister(uint64_t key)
{
	for (int i = 0; i < KEYS_MAX; i++)
		if (lun.others[i] == key)
			lun.others[i] = 0;
	lun.generation++;
}

static void model_preempt(uint64_t own, uint64_t victim)
{
	while (lun.hangs_abort) {
		lun.is_hanging = true;
		(void)pthread_cond_broadcast(&lun.changed);
		(void)pthread_cond_wait(&lun.changed, &lun.lock);
	}
	model_unregister(victim);
	if (lun.holder == victim)
		lun.holder = own;
	lun.aborts++;
}

static void model_register(struct sg_io_hdr *header, int disk, uint64_t own, uint64_t other)
{
	if (header->cmdp[1] == 0 && lun.registered[disk] != own) {
		header->status = 0x18;
	} else {
		lun.register_flags = ((const uint8_t *)header->dxferp)[20];
		lun.registered[disk] = other;
		lun.generation++;
	}
	if (lun.preempted_after > 0 && --lun.preempted_after == 0)
		lun.registered[0] = lun.registered[1] = 0;
}

static void model_out(struct sg_io_hdr *header, int disk)
{
	const uint8_t *parameters = header->dxferp;
	uint64_t own = get_u64(parameters), other = get_u64(parameters + 8);

	assert_true(header->dxfer_direction == SG_DXFER_TO_DEV);
	assert_int_equal(header->dxfer_len, 24);
	if (header->cmdp[1] == 0 || header->cmdp[1] == 6) {
		model_register(header, disk, own, other);
		return;
	}
	assert_int_equal(header->cmdp[2], 5);
	if (lun.registered[disk] == 0 || lun.registered[disk] != own) {
		header->status = 0x18;
		return;
	}
	if (header->cmdp[1] == 1) {
		if (lun.holder != 0 && lun.holder != own)
			header->status = 0x18;
		else
			lun.holder = own;
		return;
	}
	if (header->cmdp[1] == 4)
		assert_true(lun.is_untrue || lun.laying == FERRY_LAYING_QUIESCE);
	else
		assert_int_equal(header->cmdp[1], 5);
	if (lun.was_faster)
		model_unregister(other);
	if (!model_is_registered(other)) /* SPC-4, 5.13.11.2.3: no such registration. */
		header->status = 0x18;
	else
		model_preempt(own, other);
}

static int model_reset(const int *what)
{
	int r = 0;

	assert_int_equal(*what, SG_SCSI_RESET_DEVICE | FERRY_SGIO_RESET_ONLY);
	(void)pthread_mutex_lock(&lun.lock);
	lun.resets++;
	if (lun.refuses_reset) {
		errno = EIO;
		r = -1;
	}
	(void)pthread_mutex_unlock(&lun.lock);
	return r;
}

int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	struct sg_io_hdr *header = argument;
	int disk = 0;

	while (disk < DISKS && lun.disks[disk] != fd)
		disk++;
	assert_true(disk < DISKS);
	if (request == SG_SCSI_RESET)
		return model_reset(argument);
	assert_int_equal(request, SG_IO);
	assert_int_equal(header->interface_id, 'S');
	assert_int_equal(header->cmd_len, 10);
	(void)pthread_mutex_lock(&lun.lock);
	if (lun.is_dead[disk]) {
		header->host_status = 1;
	} else if (lun.has_none) {
		sense(header, 5, 0x20, 0);
	} else if (lun.attentions > 0) {
		lun.attentions--;
		sense(header, 6, lun.is_reset ? 0x29 : 0x2a, lun.is_reset ? 0 : 0x05);
	} else if (header->cmdp[0] == 0x5e) {
		model_in(header);
	} else {
		assert_int_equal(header->cmdp[0], 0x5f);
		model_out(header, disk);
	}
	if (lun.is_mute[disk])
		header->host_status = 3;
	(void)pthread_mutex_unlock(&lun.lock);
	return 0;
}

/* ---- The rig. ---- */

static struct ferry_uring_loop *loop;
static struct ferry_sgio *sgio;
static struct ferry_fence_request request;
static int answer;
static uint32_t attentions;
static bool answered_for;

static void attention(uint8_t asc, uint8_t ascq, void *context)
{
	assert_null(context);
	assert_true(lun.is_reset ? asc == 0x29 && ascq == 0 : asc == 0x2a && ascq == 0x05);
	attentions++;
}

static int start_error(uint64_t timeout_ns, struct ferry_error *error)
{
	struct ferry_sgio_config config = {.loop = ferry_uring_loop_of(loop),
					   .path = "unused",
					   .timeout_ns = timeout_ns,
					   .laying = lun.laying,
					   .quiesce_time_ns = lun.quiesce_time_ns,
					   .on_unit_attention = attention};

	for (int i = 0; i < DISKS; i++) {
		lun.disks[i] = memfd_create("disk", MFD_CLOEXEC);
		assert_true(lun.disks[i] >= 0);
	}
	return ferry_sgio_start(&config, lun.disks, DISKS, lun.is_untrue, &sgio, error);
}

static int set_up(void **state)
{
	struct ferry_error error;

	(void)state;
	(void)alarm(DEADLINE_S);
	memset(&lun, 0, sizeof(lun));
	lun.generation = 7;
	attentions = 0;
	answered_for = false;
	(void)pthread_mutex_init(&lun.lock, NULL);
	(void)pthread_cond_init(&lun.changed, NULL);
	assert_int_equal(ferry_uring_loop_open(&loop, &error), 0);
	return 0;
}

static void let_go(bool hangs)
{
	(void)pthread_mutex_lock(&lun.lock);
	lun.hangs_abort = hangs;
	(void)pthread_cond_broadcast(&lun.changed);
	(void)pthread_mutex_unlock(&lun.lock);
}

static int tear_down(void **state)
{
	(void)state;
	let_go(false); /* Of a test that has failed: who waits there would keep us here for ever. */
	ferry_sgio_close(TAKE_PTR(sgio));
	loop = ferry_uring_loop_close(loop);
	(void)pthread_cond_destroy(&lun.changed);
	(void)pthread_mutex_destroy(&lun.lock);
	return 0;
}

static void start(uint64_t timeout_ns)
{
	struct ferry_error error;

	assert_int_equal(start_error(timeout_ns, &error), 0);
}

static void done(struct ferry_fence_request *which, int error)
{
	assert_ptr_equal(which, &request);
	answer = error;
	ferry_uring_loop_stop(loop);
}

/* @other: the victim, or to REGISTER the kept key. */
static int ask(enum ferry_fence_op op, uint64_t own, uint64_t other)
{
	request = (struct ferry_fence_request){
		.op = op, .own = {own}, .is_answered_for = answered_for, .on_done = done};
	if (op == FERRY_FENCE_REGISTER)
		request.kept.v = other;
	else
		request.victim.v = other;
	answer = 1;
	ferry_fence_submit(ferry_sgio_fence(sgio), &request);
	assert_int_equal(answer, 1); /* Never from inside. */
	assert_int_equal(ferry_uring_loop_run(loop), 0);
	assert_int_not_equal(answer, 1);
	return answer;
}

/* ---- Tests. ---- */

static void test_takes_a_lun(void **state)
{
	(void)state;
	start(0);
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	lun.holder = 0x22;
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(request.keys_count, 1);
	assert_int_equal(request.keys[0].v, 0x22);
	assert_int_equal(request.holder.v, 0x22);
	assert_int_equal(request.generation, 7);
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -EACCES);
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x11, 0), -EACCES);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	assert_int_equal(lun.register_flags, 1); /* APTPL. */
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x11, 0), -EBUSY);
	assert_int_equal(lun.aborts, 0);
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.aborts, 1);
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(request.holder.v, 0x11);
	assert_int_equal(ask(FERRY_FENCE_RESET, 0x11, 0), -EOPNOTSUPP);
}

/* Another removed the victim's key a moment before: a conflict, but not for want of our own. */
static void test_another_was_faster(void **state)
{
	(void)state;
	start(0);
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	lun.others[1] = 0x33;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x11, 0), 0);
	lun.was_faster = true;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.aborts, 0);
	assert_int_equal(lun.resets,
			 1); /* What it had sent is for us to prove dead, all the same. */
	lun.was_faster = false;
	/* By a path whose nexus is not registered the conflict is for want of that. */
	lun.registered[1] = 0;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x33), -EACCES);
	assert_int_equal(lun.aborts, 0);
}

static void test_registers_each_path(void **state)
{
	(void)state;
	start(0);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	assert_int_equal(lun.registered[0], 0x11);
	assert_int_equal(lun.registered[1], 0x11);
	/* One is dead: by the other all goes on. */
	lun.is_dead[0] = true;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x12, 0x11), 0);
	assert_int_equal(lun.registered[1], 0x12);
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x12, 0), 0);
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), 0);
	lun.is_dead[1] = true;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x13, 0x12), -ENOTCONN);
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), -ENOTCONN);
	/* It is back, with the key of an elder. */
	lun.is_dead[0] = lun.is_dead[1] = false;
	assert_int_equal(lun.registered[0], 0x11);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x12, 0x12), 0);
	assert_int_equal(lun.registered[0], 0x12);
	assert_int_equal(lun.registered[1], 0x12);
}

/* Between its reading of the keys and its registering, a node may have been preempted. */
static void test_registers_only_what_was_kept(void **state)
{
	/* The second disk's key when it reads, and after which step it is preempted. */
	static const struct {
		uint64_t second;
		uint32_t after;
	} CASES[] = {{0x10, 1}, {0x9, 1}, {0x9, 2}, {0x9, 3}};

	(void)state;
	start(0);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0x10), -EACCES);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(CASES); i++) {
		lun.registered[0] = 0x10;
		lun.registered[1] = CASES[i].second;
		lun.preempted_after = CASES[i].after;
		assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0x10), -EACCES);
		assert_int_equal(lun.preempted_after, 0);
		assert_true(lun.registered[0] == 0 && lun.registered[1] == 0);
	}
	/* It had none as it read. */
	lun.registered[0] = 0x10;
	lun.registered[1] = 0;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x10, 0), 0);
	lun.registered[1] = 0x10;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), -EACCES);
	/* The kept key is another nexus': of an older name. */
	lun.registered[0] = lun.registered[1] = 0;
	lun.others[0] = 0x10;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0x10), 0);
	lun.registered[0] = lun.registered[1] = 0;
	lun.others[0] = 0x11;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0x11), 0);
	assert_true(lun.registered[0] == 0x11 && lun.registered[1] == 0x11);
}

static void test_an_answer_lost_is_no_refusal(void **state)
{
	(void)state;
	start(0);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	lun.is_mute[0] = lun.is_mute[1] = true;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0x11), -ETIMEDOUT);
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x11, 0), -ETIMEDOUT);
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), -ENOTCONN);
}

static void test_attentions_are_told_and_retried(void **state)
{
	(void)state;
	start(0);
	lun.attentions = 2;
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), 0);
	assert_int_equal(attentions, 2);
	lun.attentions = 1000; /* It never ends. */
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), -EIO);
}

/* It may have been a restart's: the keys are read before they are changed. Reading goes on. */
static void test_no_change_after_a_reset(void **state)
{
	uint32_t generation;

	(void)state;
	start(0);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x11, 0), 0);
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	lun.is_reset = true;
	generation = lun.generation;
	lun.attentions = 1;
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0x11), -EIO);
	lun.attentions = 1;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -EIO);
	assert_int_equal(lun.generation, generation);
	assert_int_equal(lun.others[0], 0x22);
	lun.attentions = 1;
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), 0);
	lun.attentions = 1;
	assert_int_equal(ask(FERRY_FENCE_RESERVE, 0x11, 0), 0);
	assert_int_equal(attentions, 4);
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
}

/* An abort without an answer is made good by a reset, if the lun is reserved. */
static void test_lays_the_unregistered(void **state)
{
	(void)state;
	start(0);
	assert_int_equal(ferry_sgio_fence(sgio)->ability.laying, FERRY_LAYING_ABORT);
	assert_true(ferry_sgio_fence(sgio)->ability.keeps_registrations);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -ENOENT); /* Not reserved. */
	assert_int_equal(lun.resets, 0);
	lun.holder = 0x11;
	lun.refuses_reset = true;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -ETIMEDOUT);
	lun.refuses_reset = false;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.resets, 2);
	assert_int_equal(lun.aborts, 0);
}

/* A target whose aborts prove nothing: refused, or by the time that is promised for it. */
static void test_untrue_target(void **state)
{
	uint64_t begin_ns;

	(void)state;
	lun.is_untrue = true;
	start(0);
	assert_int_equal(ferry_sgio_fence(sgio)->ability.laying, 0);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -EOPNOTSUPP);
	assert_int_equal(lun.others[0], 0x22);
	/* A person answers for it: its key goes all the same, and with it what it may send yet. */
	lun.others[1] = 0x33;
	lun.holder = 0x33;
	answered_for = true;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x33), 0);
	assert_int_equal(lun.others[1], 0);
	assert_int_equal(lun.holder, 0x11);
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x33), 0); /* Not registered any more. */
	assert_int_equal(lun.resets, 0);
	answered_for = false;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x33), -EOPNOTSUPP);
	ferry_sgio_close(TAKE_PTR(sgio));
	lun.quiesce_time_ns = 300 * FERRY_NS_PER_MS;
	start(0);
	assert_int_equal(ferry_sgio_fence(sgio)->ability.laying, FERRY_LAYING_QUIESCE);
	begin_ns = ferry_loop_now_ns(ferry_uring_loop_of(loop));
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_true(ferry_loop_now_ns(ferry_uring_loop_of(loop)) - begin_ns >= lun.quiesce_time_ns);
	assert_int_equal(lun.others[0], 0);
	assert_int_equal(lun.resets, 0);
	assert_int_equal(lun.aborts, 2); /* By PREEMPT, as the model counts it. */
}

/* What the administrator says of the storage goes first. */
static void test_laying_as_configured(void **state)
{
	uint64_t begin_ns;

	(void)state;
	lun.laying = FERRY_LAYING_QUIESCE;
	lun.quiesce_time_ns = 200 * FERRY_NS_PER_MS;
	start(0);
	assert_int_equal(ferry_sgio_fence(sgio)->ability.laying, FERRY_LAYING_QUIESCE);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	lun.others[0] = 0x22;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -ENOENT); /* Not reserved. */
	assert_int_equal(lun.others[0], 0x22);
	lun.holder = 0x11;
	begin_ns = ferry_loop_now_ns(ferry_uring_loop_of(loop));
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_true(ferry_loop_now_ns(ferry_uring_loop_of(loop)) - begin_ns >= lun.quiesce_time_ns);
	ferry_sgio_close(TAKE_PTR(sgio));

	lun.laying = FERRY_LAYING_ABORT;
	lun.is_untrue = true;
	start(0);
	assert_int_equal(ferry_sgio_fence(sgio)->ability.laying, FERRY_LAYING_ABORT);
}

/* The abort waits for a write that hangs: given up, it still counts when it is answered. */
static void test_a_late_abort_is_not_lost(void **state)
{
	uint32_t generation;

	(void)state;
	start(50 * FERRY_NS_PER_MS);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	lun.hangs_abort = true;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -ETIMEDOUT);
	/* The thread is not back: nothing is proven, and nothing else is asked. */
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -ETIMEDOUT);
	assert_int_equal(lun.aborts, 0);
	let_go(false);
	while (ask(FERRY_FENCE_PREEMPT, 0x11, 0x22) == -ETIMEDOUT)
		;
	assert_int_equal(answer, 0);
	assert_int_equal(lun.aborts, 1); /* By the first, and only that. */
	/* Something has changed since: the victim may have been back. */
	lun.generation++;
	assert_int_equal(lun.resets, 0);
	lun.holder = 0x11;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.resets, 1);
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.resets, 1);
	/* The target counts anew, and comes to the same number. */
	generation = lun.generation;
	lun.generation = 1;
	assert_int_equal(ask(FERRY_FENCE_READ_KEYS, 0, 0), 0);
	lun.generation = generation;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.resets, 2);
}

static void read_done(struct ferry_fence_request *which, int error)
{
	answer = error;
	ferry_uring_loop_stop(loop);
	(void)which;
}

/* A FLUSH may wait for what the keys are: whatever else the target is at, they are read. */
static void test_reads_while_it_hangs(void **state)
{
	struct ferry_fence_request reads[3];
	uint32_t generation;

	(void)state;
	start(10 * FERRY_NS_PER_S);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	generation = lun.generation;
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	lun.hangs_abort = true;
	request = (struct ferry_fence_request){
		.op = FERRY_FENCE_PREEMPT, .own = {0x11}, .victim = {0x22}, .on_done = done};
	ferry_fence_submit(ferry_sgio_fence(sgio), &request);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(reads); i++) {
		reads[i] = (struct ferry_fence_request){.op = FERRY_FENCE_READ_KEYS,
							.on_done = read_done};
		(void)pthread_mutex_lock(&lun.lock);
		lun.generation = i < 2 ? generation : 1; /* It counts anew. */
		(void)pthread_mutex_unlock(&lun.lock);
		ferry_fence_submit(ferry_sgio_fence(sgio), &reads[i]);
		answer = 1;
		assert_int_equal(ferry_uring_loop_run(loop), 0);
		assert_int_equal(answer, 0);
		assert_int_equal(reads[i].keys_count, DISKS + 1);
		assert_int_equal(reads[i].generation, i < 2 ? generation : 1);
	}
	let_go(false);
	assert_int_equal(ferry_uring_loop_run(loop), 0);
	assert_int_equal(answer, 0);
	assert_int_equal(lun.aborts, 1);
	/* What was proven before a count that began anew counts no more, whoever has read that. */
	lun.holder = 0x11;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), 0);
	assert_int_equal(lun.resets, 1);
}

static void test_closes_while_it_hangs(void **state)
{
	(void)state;
	start(10 * FERRY_NS_PER_MS);
	assert_int_equal(ask(FERRY_FENCE_REGISTER, 0x11, 0), 0);
	lun.others[0] = 0x22;
	lun.holder = 0x11;
	lun.hangs_abort = true;
	assert_int_equal(ask(FERRY_FENCE_PREEMPT, 0x11, 0x22), -ETIMEDOUT);
	ferry_sgio_close(TAKE_PTR(sgio));
	let_go(false);
	/* The thread goes, and its descriptors with it. */
	while (fcntl(lun.disks[0], F_GETFD) >= 0 || fcntl(lun.disks[1], F_GETFD) >= 0)
		usleep(1000);
	/* What it has read of the model comes before what the next test writes there. */
	(void)pthread_mutex_lock(&lun.lock);
	(void)pthread_mutex_unlock(&lun.lock);
}

static void test_classes(void **state)
{
	struct ferry_error error;

	(void)state;
	lun.has_none = true;
	assert_int_equal(start_error(0, &error), -EOPNOTSUPP);
	lun.has_none = false;
	lun.forgets = true;
	assert_int_equal(start_error(0, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.message, "APTPL"));
	lun.is_dead[0] = lun.is_dead[1] = true;
	assert_int_equal(start_error(0, &error), -ENOTCONN); /* Unknown is not "none". */
}

static void test_a_file_has_none(void **state)
{
	struct ferry_sgio_config config = {.loop = ferry_uring_loop_of(loop)};
	struct ferry_error error;
	char path[] = "/tmp/ferry-sgio-test.XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	config.path = path;
	assert_int_equal(ferry_sgio_open(&config, &sgio, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.message, "no reservations"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ferry_sgio_open(&config, &sgio, &error), -ENOENT);
	(void)close(fd);
}

/* ---- Finding disks, in a sysfs of our own. ---- */

static char sysfs[] = "/tmp/ferry-sgio-sys.XXXXXX";

static void make(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(path, sizeof(path), "%s/%.*s", sysfs, (int)(slash - name), name);
		(void)mkdir(path, 0700); /* It may be there. */
	}
	(void)snprintf(path, sizeof(path), "%s/%s", sysfs, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void make_block(const char *number, const char *to)
{
	char path[256], target[256];

	(void)snprintf(path, sizeof(path), "%s/dev/block/%s", sysfs, number);
	(void)snprintf(target, sizeof(target), "../../%s", to);
	assert_int_equal(symlink(target, path), 0);
}

static void test_finds_disks(void **state)
{
	struct ferry_sgio_disks disks = {};
	struct ferry_error error;
	char command[64];

	(void)state;
	assert_non_null(mkdtemp(sysfs));
	make("dev/block/unused", "");
	make("d/sda/device/scsi_level", "6\n");
	make("d/sda/sda1/partition", "1\n");
	make("d/sdb/device/scsi_level", "6\n");
	make("d/dm-0/slaves/sdb/device/vendor", "LIO-ORG \n");
	make("d/sdc/device/scsi_level", "6\n");
	make("d/sdc/device/model", "VIRTUAL-DISK    \n");
	make("d/nvme0n1/device/model", "A disk\n");
	make("d/dm-0/dm/uuid", "mpath-3600\n");
	make("d/dm-0/slaves/sda/device/scsi_level", "6\n");
	make("d/dm-0/slaves/sdb/device/scsi_level", "6\n");
	make("d/dm-1/dm/uuid", "LVM-abc\n");
	make("d/dm-1/slaves/sda/device/scsi_level", "6\n");
	make_block("8:0", "d/sda");
	make_block("8:1", "d/sda/sda1");
	make_block("8:32", "d/sdc");
	make_block("259:0", "d/nvme0n1");
	make_block("254:0", "d/dm-0");
	make_block("254:1", "d/dm-1");

	assert_int_equal(ferry_sgio_find(sysfs, makedev(8, 0), &disks, &error), 0);
	assert_int_equal(disks.count, 1);
	assert_string_equal(disks.names[0], "sda");
	assert_false(disks.is_untrue);
	assert_int_equal(ferry_sgio_find(sysfs, makedev(254, 0), &disks, &error), 0);
	assert_int_equal(disks.count, 2);
	assert_int_not_equal(strcmp(disks.names[0], disks.names[1]), 0);
	assert_true(disks.is_untrue);
	assert_int_equal(ferry_sgio_find(sysfs, makedev(8, 1), &disks, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.message, "partition"));
	assert_int_equal(ferry_sgio_find(sysfs, makedev(8, 32), &disks, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.message, "tgtd"));
	assert_int_equal(ferry_sgio_find(sysfs, makedev(259, 0), &disks, &error), -EOPNOTSUPP);
	assert_int_equal(ferry_sgio_find(sysfs, makedev(254, 1), &disks, &error), -EOPNOTSUPP);
	assert_int_equal(ferry_sgio_find(sysfs, makedev(7, 0), &disks, &error), -EOPNOTSUPP);
	(void)snprintf(command, sizeof(command), "rm -r %s", sysfs);
	assert_int_equal(system(command), 0);
}

/* ---- What one answer means. ---- */

static void test_judges(void **state)
{
	/* As Debian's kernel 6.1 gave it from its own target: INVALID FIELD IN CDB. */
	uint8_t illegal[] = {0x72, 0x05, 0x24, 0x00, 0, 0, 0, 0};
	uint8_t aborted[] = {0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0};
	struct sg_io_hdr header = {.sbp = illegal, .sb_len_wr = sizeof(illegal), .status = 0x02};
	struct ferry_sense told;

	(void)state;
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNSUPPORTED);
	header.driver_status = 0x08;
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNSUPPORTED);
	header.driver_status = 0x06;
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNKNOWN);
	header = (struct sg_io_hdr){.sbp = aborted, .sb_len_wr = sizeof(aborted), .status = 0x02};
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_REFUSED);
	header.sb_len_wr = 0; /* CHECK CONDITION, and not why. */
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNKNOWN);
	header = (struct sg_io_hdr){.status = 0x40}; /* TASK ABORTED */
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNKNOWN);
	header.status = 0x18;
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_CONFLICT);
	header.host_status = 3; /* Timed out: there was no status. */
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNKNOWN);
	header = (struct sg_io_hdr){.host_status = 1};
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_UNSENT);
	header = (struct sg_io_hdr){.status = 0x28};
	assert_int_equal(ferry_sgio_judge(&header, &told), FERRY_SGIO_BUSY);
}

int main(void)
{
#define WITH_LOOP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_LOOP(test_takes_a_lun),
		WITH_LOOP(test_another_was_faster),
		WITH_LOOP(test_registers_each_path),
		WITH_LOOP(test_registers_only_what_was_kept),
		WITH_LOOP(test_an_answer_lost_is_no_refusal),
		WITH_LOOP(test_attentions_are_told_and_retried),
		WITH_LOOP(test_no_change_after_a_reset),
		WITH_LOOP(test_lays_the_unregistered),
		WITH_LOOP(test_untrue_target),
		WITH_LOOP(test_laying_as_configured),
		WITH_LOOP(test_a_late_abort_is_not_lost),
		WITH_LOOP(test_reads_while_it_hangs),
		WITH_LOOP(test_closes_while_it_hangs),
		WITH_LOOP(test_classes),
		WITH_LOOP(test_a_file_has_none),
		cmocka_unit_test(test_finds_disks),
		cmocka_unit_test(test_judges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
