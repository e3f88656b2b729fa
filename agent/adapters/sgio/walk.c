/*
 * A request, step after step, on the adapter's thread.
 *
 * PREEMPT, by PREEMPT AND ABORT:  read keys, preempt and abort, read keys. It is answered when none
 * of the victim's commands is left (SPC-4, 5.13.11.2.6).
 *
 * PREEMPT, by a promised time:    read keys, preempt, wait, read keys.
 *
 * Of a victim that is not registered, if the lun is reserved, only what follows the PREEMPT: it can
 * start nothing new. So an answer that was lost is made good by asking again. By the first way
 * there is nothing to abort by: then it is LUN RESET, for which the standard says as much.
 *
 * REGISTER:                       by each disk, in the place of the kept key: the target refuses
 * that if another key, or none, is that nexus' by now. One that cannot be reached now is left out;
 * its I/O, when it is back, meets a conflict, which has this node register anew. Nexuses of one
 * node differ if a disk is new or was away. So where some, or another nexus, still have the key,
 * register beside it; if it was preempted meanwhile, which the keys then show, withdraw.
 *
 * Whatever changes the registrations is not sent after a reset was reported (29h): it may have been
 * a restart, which changing them hides (docs/decisions/0009). Whoever asked reads the keys first.
 * To withdraw a registration that should not be there comes before that.
 *
 * Whatever only reads is tried by one disk after another.
 */
#include <limits.h>
#include <poll.h>
#include <time.h>

#include "agent/adapters/sgio/private.h"

enum {
	RETRIES_MAX = 32,
	BUSY_PAUSE_MS = 100,
	/*
	 * What the kernel waits for an answer before it begins to abort and to reset, which would
	 * stop this node's own I/O. Long, for a path that is broken ends commands by itself; and an
	 * abort may be waiting for a write that hangs in the target's backend.
	 */
	TIMEOUT_MS = 60 * 1000,
	ABORT_TIMEOUT_MS = 3600 * 1000,
};

static void attention_note(struct ferry_sgio_worker *worker, const struct ferry_sense *sense)
{
	uint32_t count = worker->attentions_count;

	worker->has_seen_reset |= sense->asc == 0x29;
	if (count == FERRY_SGIO_ATTENTIONS_MAX)
		return; /* More of the same kinds: they only say "look". */
	worker->attentions[count].asc = sense->asc;
	worker->attentions[count].ascq = sense->ascq;
	worker->attentions_count++;
}

/* By one disk, until it is an answer. */
static enum ferry_sgio_answer send_until(struct ferry_sgio_worker *worker, uint32_t disk,
					 struct ferry_sgio_command *command)
{
	static const struct timespec pause = {.tv_nsec = BUSY_PAUSE_MS * (long)FERRY_NS_PER_MS};
	uint32_t data_bytes = command->data_bytes;

	for (uint32_t i = 0; i < RETRIES_MAX; i++) {
		enum ferry_sgio_answer answer;

		if (command->changes_keys && worker->has_seen_reset)
			return FERRY_SGIO_REFUSED;
		command->data_bytes = data_bytes;
		answer = ferry_sgio_send(worker->disks[disk], command);
		if (answer == FERRY_SGIO_ATTENTION)
			attention_note(worker, &command->sense);
		else if (answer == FERRY_SGIO_BUSY)
			(void)nanosleep(&pause, NULL); /* Woken early, it asks early. */
		else
			return answer;
	}
	return FERRY_SGIO_REFUSED;
}

static int error_of(enum ferry_sgio_answer answer, bool is_out)
{
	switch (answer) {
	case FERRY_SGIO_GOOD:
		return 0;
	case FERRY_SGIO_CONFLICT:
		return -EACCES;
	case FERRY_SGIO_UNSUPPORTED:
		return -EOPNOTSUPP;
	case FERRY_SGIO_UNSENT:
		return -ENOTCONN;
	case FERRY_SGIO_UNKNOWN:
		return is_out ? -ETIMEDOUT : -ENOTCONN;
	case FERRY_SGIO_ATTENTION:
	case FERRY_SGIO_BUSY:
	case FERRY_SGIO_REFUSED:
		break;
	}
	return -EIO;
}

/* A query, by whatever disk answers. @data_bytes: room, then what came. */
static int in(struct ferry_sgio_worker *worker, enum ferry_pr_in action, uint8_t *data,
	      uint32_t *data_bytes)
{
	int r = -ENOTCONN;

	for (uint32_t i = 0; i < worker->disks_count; i++) {
		uint32_t disk = (worker->disk + i) % worker->disks_count;
		struct ferry_sgio_command command = {
			.data = data, .data_bytes = *data_bytes, .timeout_ms = TIMEOUT_MS};
		enum ferry_sgio_answer answer;

		ferry_pr_in_cdb(action, (uint16_t)*data_bytes, command.cdb);
		answer = send_until(worker, disk, &command);
		r = command.error == -EPERM ? -EPERM : error_of(answer, /* is_out= */ false);
		if (answer == FERRY_SGIO_UNSENT || answer == FERRY_SGIO_UNKNOWN)
			continue;
		worker->disk = disk;
		*data_bytes = command.data_bytes;
		return r;
	}
	return r;
}

static int out_by(struct ferry_sgio_worker *worker, uint32_t disk, enum ferry_pr_out action,
		  struct ferry_key own, struct ferry_key other)
{
	uint8_t parameters[FERRY_PR_OUT_BYTES];
	struct ferry_sgio_command command = {
		.data = parameters,
		.data_bytes = sizeof(parameters),
		.is_out = true,
		.changes_keys =
			action != FERRY_PR_RESERVE && (action != FERRY_PR_REGISTER || other.v != 0),
		.timeout_ms = action == FERRY_PR_PREEMPT_AND_ABORT ? ABORT_TIMEOUT_MS : TIMEOUT_MS,
	};

	ferry_pr_out_cdb(action, command.cdb);
	ferry_pr_out_parameters(action, own, other, parameters);
	return error_of(send_until(worker, disk, &command), /* is_out= */ true);
}

/* By one disk: what has no answer may be executed, so it is not sent by another as well. */
static int out(struct ferry_sgio_worker *worker, enum ferry_pr_out action, struct ferry_key own,
	       struct ferry_key other)
{
	int r = out_by(worker, worker->disk, action, own, other);

	if (r == -ENOTCONN || r == -ETIMEDOUT) /* The next request goes another way. */
		worker->disk = (worker->disk + 1) % worker->disks_count;
	return r;
}

static int keys_read(struct ferry_sgio_worker *worker, struct ferry_pr_keys *ret)
{
	uint8_t data[FERRY_PR_KEYS_BYTES] = {};
	uint32_t data_bytes = sizeof(data);
	int r = in(worker, FERRY_PR_READ_KEYS, data, &data_bytes);

	if (r < 0)
		return r;
	if (ferry_pr_get_keys(data, data_bytes, ret) < 0)
		return -EIO;
	if (ret->generation < worker->laid_generation)
		worker->laid.v = 0; /* Counted anew, by a target that was restarted. */
	return 0;
}

static int reservation_read(struct ferry_sgio_worker *worker, struct ferry_pr_reservation *ret)
{
	uint8_t data[FERRY_PR_RESERVATION_BYTES] = {};
	uint32_t data_bytes = sizeof(data);
	int r = in(worker, FERRY_PR_READ_RESERVATION, data, &data_bytes);

	if (r < 0)
		return r;
	return ferry_pr_get_reservation(data, data_bytes, ret) < 0 ? -EIO : 0;
}

static int walk_read(struct ferry_sgio_worker *worker)
{
	struct ferry_fence_request *request = &worker->request;
	struct ferry_pr_reservation reservation = {};
	struct ferry_pr_keys keys = {};
	int r = keys_read(worker, &keys);

	if (r == 0)
		r = reservation_read(worker, &reservation);
	if (r < 0)
		return r;
	memcpy(request->keys, keys.keys, sizeof(request->keys));
	request->keys_count = keys.count;
	request->generation = keys.generation;
	request->holder = reservation.holder;
	return 0;
}

/* What came of registering by each disk. */
struct registration {
	bool is_refused[FERRY_SGIO_PATHS_MAX];
	bool is_beside[FERRY_SGIO_PATHS_MAX];
	uint32_t accepted;
	uint32_t beside;
	int unreachable;
};

static int register_kept(struct ferry_sgio_worker *worker, struct registration *registration)
{
	const struct ferry_fence_request *request = &worker->request;

	for (uint32_t i = 0; i < worker->disks_count; i++) {
		int r = out_by(worker, i, FERRY_PR_REGISTER, request->kept, request->own);

		if (r == -ENOTCONN || r == -ETIMEDOUT) {
			if (r == -ETIMEDOUT)
				registration->unreachable = r;
			continue;
		}
		if (r < 0 && r != -EACCES)
			return r;
		registration->is_refused[i] = r < 0;
		registration->accepted += r == 0;
		worker->disk = i;
	}
	return 0;
}

static int register_beside(struct ferry_sgio_worker *worker, struct registration *registration)
{
	for (uint32_t i = 0; i < worker->disks_count; i++) {
		int r;

		if (!registration->is_refused[i])
			continue;
		r = out_by(worker, i, FERRY_PR_REGISTER_AND_IGNORE, (struct ferry_key){0},
			   worker->request.own);
		if (r == -ENOTCONN)
			continue;
		/* Without an answer it may be registered: then it is one of those to withdraw. */
		registration->is_beside[i] = true;
		registration->beside++;
		if (r < 0 && r != -ETIMEDOUT)
			return r;
	}
	return 0;
}

/* That the kept key, or what has taken its place, was there all the time. */
static bool was_kept(const struct ferry_sgio_worker *worker, const struct ferry_pr_keys *keys,
		     const struct registration *registration)
{
	const struct ferry_fence_request *request = &worker->request;

	if (registration->accepted > 0)
		return ferry_pr_keys_like(keys, request->own) >=
		       registration->accepted + registration->beside;
	return ferry_pr_keys_like(keys, request->kept) >
	       (request->kept.v == request->own.v ? registration->beside : 0);
}

static void withdraw(struct ferry_sgio_worker *worker, const struct registration *registration)
{
	for (uint32_t i = 0; i < worker->disks_count; i++)
		if (registration->is_beside[i])
			/* If that fails, whoever takes the lun finds it, as any other. */
			(void)out_by(worker, i, FERRY_PR_REGISTER, worker->request.own,
				     (struct ferry_key){0});
}

static int walk_register(struct ferry_sgio_worker *worker)
{
	struct registration registration = {.unreachable = -ENOTCONN};
	struct ferry_pr_keys keys = {};
	bool is_refused = false;
	int r = register_kept(worker, &registration);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < worker->disks_count; i++)
		is_refused |= registration.is_refused[i];
	if (!is_refused)
		return registration.accepted > 0 ? 0 : registration.unreachable;
	if (registration.accepted == 0) {
		r = keys_read(worker, &keys);
		if (r < 0)
			return r;
		if (worker->request.kept.v == 0 || !ferry_pr_keys_have(&keys, worker->request.kept))
			return -EACCES;
	}
	r = register_beside(worker, &registration);
	if (r == 0)
		r = keys_read(worker, &keys);
	if (r == 0 && was_kept(worker, &keys, &registration))
		return 0;
	withdraw(worker, &registration);
	return r < 0 ? r : -EACCES;
}

static int walk_reserve(struct ferry_sgio_worker *worker)
{
	struct ferry_pr_keys keys = {};
	int r = out(worker, FERRY_PR_RESERVE, worker->request.own, (struct ferry_key){0});

	if (r != -EACCES)
		return r;
	/* Because of another's reservation, or for want of our registration? */
	r = keys_read(worker, &keys);
	if (r < 0)
		return r;
	return ferry_pr_keys_have(&keys, worker->request.own) ? -EBUSY : -EACCES;
}

static int reset(struct ferry_sgio_worker *worker)
{
	int r = ferry_sgio_reset(worker->disks[worker->disk]);

	if (r < 0)
		worker->disk = (worker->disk + 1) % worker->disks_count;
	return r;
}

static int quiesce(struct ferry_sgio_worker *worker)
{
	struct pollfd go = {.fd = worker->go_fd, .events = POLLIN};
	uint64_t wait_ms = worker->quiesce_time_ns / FERRY_NS_PER_MS + 1;

	ferry_assert(wait_ms <= INT_MAX);
	/* Nothing is asked of a thread that has something to do: only its end wakes it. */
	return poll(&go, 1, (int)wait_ms) == 0 ? 0 : -ETIMEDOUT;
}

/* Else nothing keeps the victim from writing on, what is still on its way to the lun included. */
static int must_be_reserved(struct ferry_sgio_worker *worker)
{
	struct ferry_pr_reservation reservation = {};
	int r = reservation_read(worker, &reservation);

	if (r < 0)
		return r;
	return reservation.type < FERRY_PR_WRITE_EXCLUSIVE_REGISTRANTS ? -ENOENT : 0;
}

/* The victim is not registered: what it sent before, and is not known to be dead? */
static int lay_unregistered(struct ferry_sgio_worker *worker, const struct ferry_pr_keys *keys)
{
	int r;

	if (worker->laid.v == worker->request.victim.v &&
	    worker->laid_generation == keys->generation)
		return 0;
	r = must_be_reserved(worker);
	if (r < 0)
		return r;
	if (!worker->laying)
		return 0; /* A person answers for it. */
	return worker->laying == FERRY_LAYING_QUIESCE ? quiesce(worker) : reset(worker);
}

static int lay_registered(struct ferry_sgio_worker *worker)
{
	const struct ferry_fence_request *request = &worker->request;
	int r = must_be_reserved(worker);

	if (r < 0)
		return r;
	if (worker->laying == FERRY_LAYING_ABORT)
		return out(worker, FERRY_PR_PREEMPT_AND_ABORT, request->own, request->victim);
	r = out(worker, FERRY_PR_PREEMPT, request->own, request->victim);
	return r < 0 || !worker->laying ? r : quiesce(worker);
}

/* Read the keys, and do what follows for the victim. */
static int lay(struct ferry_sgio_worker *worker, bool *ret_was_registered)
{
	const struct ferry_fence_request *request = &worker->request;
	struct ferry_pr_keys keys = {};
	int r = keys_read(worker, &keys);

	if (r < 0)
		return r;
	*ret_was_registered = ferry_pr_keys_have(&keys, request->victim);
	if (!ferry_pr_keys_have(&keys, request->own))
		return -EACCES;
	return *ret_was_registered ? lay_registered(worker) : lay_unregistered(worker, &keys);
}

static int walk_preempt(struct ferry_sgio_worker *worker)
{
	const struct ferry_fence_request *request = &worker->request;
	struct ferry_pr_keys keys = {};
	bool was_registered = false;
	int r;

	if (!worker->laying && !request->is_answered_for)
		return -EOPNOTSUPP;
	r = lay(worker, &was_registered);
	/*
	 * A conflict: has the victim's key gone since we read it, to somebody who was faster
	 * (SPC-4, 5.13.11.2.3), or is ours not this path's? The keys say; the second time it is.
	 */
	if (r == -EACCES && was_registered)
		r = lay(worker, &was_registered);
	if (r < 0)
		return r;
	r = keys_read(worker, &keys);
	if (r < 0)
		return -ETIMEDOUT;
	if (ferry_pr_keys_have(&keys, request->victim))
		return -EIO;
	if (!worker->laying)
		return 0; /* By a person's word, which is no proof to go on by. */
	worker->laid = request->victim;
	worker->laid_generation = keys.generation;
	return 0;
}

void ferry_sgio_walk(struct ferry_sgio_worker *worker)
{
	ferry_assert(worker->disk < worker->disks_count);
	worker->attentions_count = 0;
	worker->has_seen_reset = false;
	worker->error = -EIO;
	switch (worker->request.op) {
	case FERRY_FENCE_READ_KEYS:
		worker->error = walk_read(worker);
		break;
	case FERRY_FENCE_REGISTER:
		worker->error = walk_register(worker);
		break;
	case FERRY_FENCE_RESERVE:
		worker->error = walk_reserve(worker);
		break;
	case FERRY_FENCE_PREEMPT:
		worker->error = walk_preempt(worker);
		break;
	case FERRY_FENCE_RESET:
		worker->error = -EOPNOTSUPP;
		break;
	}
	ferry_assert(worker->error <= 0);
}

int ferry_sgio_probe(struct ferry_sgio_worker *worker, struct ferry_error *reterr)
{
	uint8_t data[FERRY_PR_CAPABILITIES_BYTES] = {};
	uint32_t data_bytes = sizeof(data);
	struct ferry_pr_capabilities capabilities = {};
	int r = in(worker, FERRY_PR_REPORT_CAPABILITIES, data, &data_bytes);

	if (r == 0)
		r = ferry_pr_get_capabilities(data, data_bytes, &capabilities);
	if (r == -EOPNOTSUPP)
		return ferry_error_set(reterr, r, "the target has no persistent reservations");
	if (r == -EPERM)
		return ferry_error_set(reterr, r,
				       "reservations: the kernel lets only those with "
				       "CAP_SYS_RAWIO ask for them");
	if (r < 0)
		return ferry_error_set(reterr, r, "whether it has reservations: %s", strerror(-r));
	if (!capabilities.has_registrants_type)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "the target has no reservation of the type Write Exclusive "
				       "- Registrants Only");
	if (!capabilities.keeps)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "the target forgets reservations when it restarts (it has "
				       "no APTPL)");
	return 0;
}
