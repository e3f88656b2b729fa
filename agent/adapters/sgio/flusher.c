#include "agent/adapters/sgio/flusher.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/common/line.h"
#include "agent/adapters/common/thread.h"
#include "agent/adapters/sgio/private.h"

/* The kernel's include/scsi/scsi_status.h; no user header has them. */
enum {
	HOST_NO_CONNECT = 0x01,
	HOST_BUS_BUSY = 0x02,
	HOST_TIME_OUT = 0x03,
	HOST_BAD_TARGET = 0x04,
	HOST_ABORT = 0x05,
	HOST_RESET = 0x08,
	HOST_IMM_RETRY = 0x0c,
	HOST_REQUEUE = 0x0d,
	HOST_TRANSPORT_DISRUPTED = 0x0e,
	HOST_TRANSPORT_FAILFAST = 0x0f,
	HOST_TRANSPORT_MARGINAL = 0x14,
};

enum {
	SYNCHRONIZE_CACHE_10 = 0x35, /* SBC-3, 5.22; no range: all of it. */
	KEY_RECOVERED_ERROR = 0x1,
	KEY_NOT_READY = 0x2,
	KEY_ABORTED_COMMAND = 0xb,
	ASC_NOT_READY = 0x04,
	ASC_LUN_NOT_SUPPORTED = 0x25,
	ASC_RESET = 0x29,
	REPEATS_MAX = 5, /* As the kernel repeats a flush. */
	WAITS_MAX = 32,
	WAIT_MS = 100,
	TIMEOUT_MS = 60 * 1000, /* The kernel's for a flush; then it aborts and resets. */
};

/* The thread's while a command is out, and nobody else's. */
struct flusher_worker {
	atomic_uint references; /* The flusher's and the thread's. */
	atomic_bool is_over;
	int go_fd, done_fd; /* eventfds: send one, or it is over; it has ended. */
	int disk;
	struct ferry_sgio_flush_end end;
	struct ferry_sense attentions[FERRY_SGIO_ATTENTIONS_MAX];
	uint32_t attentions_count;
};

struct ferry_sgio_flusher {
	struct ferry_flusher port;
	struct ferry_sgio_flusher_config config;
	struct flusher_worker *worker;
	pthread_t thread;
	struct ferry_watch watch;   /* worker->done_fd */
	struct ferry_list waiting;  /* For the next command. */
	struct ferry_list covered;  /* By the one that is out. */
	struct ferry_list answered; /* To be told. */
	bool is_out;
	bool is_in_callback;
};

/* ---- What an end means. ---- */

#define DONE ((struct ferry_sgio_flush_end){FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE, false, false})
#define FAILED(why) ((struct ferry_sgio_flush_end){FERRY_OUTCOME_FAILED, (why), false, false})
#define UNKNOWN(why) ((struct ferry_sgio_flush_end){FERRY_OUTCOME_UNKNOWN, (why), false, false})
/* The target's failure, if it says so again. */
#define LOST_AT_LAST                                                                               \
	((struct ferry_sgio_flush_end){FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST, true, false})
#define BUSY_AT_LAST                                                                               \
	((struct ferry_sgio_flush_end){FERRY_OUTCOME_FAILED, FERRY_CAUSE_PATH, false, true})

/* There is no answer of the target's: does the kernel say that the way to it failed? */
static struct ferry_sgio_flush_end judge_host(uint32_t host_status)
{
	switch (host_status) {
	case HOST_TIME_OUT:
		return UNKNOWN(FERRY_CAUSE_TIMEOUT);
	case HOST_NO_CONNECT:
	case HOST_BUS_BUSY:
	case HOST_BAD_TARGET:
	case HOST_ABORT:
	case HOST_RESET:
	case HOST_IMM_RETRY:
	case HOST_REQUEUE:
	case HOST_TRANSPORT_DISRUPTED:
	case HOST_TRANSPORT_FAILFAST:
	case HOST_TRANSPORT_MARGINAL:
	case 0: /* TASK ABORTED: by somebody's abort or reset. */
		return UNKNOWN(FERRY_CAUSE_PATH);
	default: /* DID_ERROR above all, which drivers say of anything. */
		return LOST_AT_LAST;
	}
}

static struct ferry_sgio_flush_end judge_unsent(int error)
{
	switch (error) {
	case 0:
	case -ENODEV: /* Given up by the kernel, or removed. */
	case -ENXIO:
		return UNKNOWN(FERRY_CAUSE_PATH);
	case -EINVAL:
	case -ENOTTY:
	case -EPERM:
	case -EACCES:
		return FAILED(FERRY_CAUSE_INVALID);
	default:
		return FAILED(FERRY_CAUSE_UNSENT);
	}
}

/* Becoming ready, or a port of an asymmetric target that does not serve: SPC-4, 4.5.6. */
static bool is_not_executed(const struct ferry_sense *sense)
{
	if (sense->key == FERRY_SENSE_ILLEGAL_REQUEST)
		return sense->asc == ASC_LUN_NOT_SUPPORTED;
	return sense->key == KEY_NOT_READY && sense->asc == ASC_NOT_READY &&
	       (sense->ascq == 0x01 || (sense->ascq >= 0x0a && sense->ascq <= 0x0c));
}

static struct ferry_sgio_flush_end judge_sense(const struct ferry_sense *sense)
{
	if (sense->is_deferred) /* Of an earlier command; what that one wrote is lost. */
		return FAILED(FERRY_CAUSE_LOST);
	if (sense->key == KEY_RECOVERED_ERROR)
		return DONE;
	if (sense->key == KEY_ABORTED_COMMAND)
		return LOST_AT_LAST;
	if (sense->key == FERRY_SENSE_UNIT_ATTENTION)
		return sense->asc == ASC_RESET ? FAILED(FERRY_CAUSE_RESET) : BUSY_AT_LAST;
	return FAILED(is_not_executed(sense) ? FERRY_CAUSE_PATH : FERRY_CAUSE_LOST);
}

struct ferry_sgio_flush_end ferry_sgio_flush_judge(enum ferry_sgio_answer answer,
						   const struct ferry_sgio_command *command)
{
	ferry_assert(command);
	switch (answer) {
	case FERRY_SGIO_GOOD:
		return DONE;
	case FERRY_SGIO_CONFLICT:
		return FAILED(FERRY_CAUSE_CONFLICT);
	case FERRY_SGIO_BUSY:
		return BUSY_AT_LAST;
	case FERRY_SGIO_UNSENT:
		return judge_unsent(command->error);
	case FERRY_SGIO_UNSUPPORTED:
		return FAILED(command->sense.is_deferred ? FERRY_CAUSE_LOST : FERRY_CAUSE_INVALID);
	case FERRY_SGIO_ATTENTION:
	case FERRY_SGIO_REFUSED:
		return judge_sense(&command->sense);
	case FERRY_SGIO_UNKNOWN:
		return command->is_checked ? FAILED(FERRY_CAUSE_LOST)
					   : judge_host(command->host_status);
	}
	ferry_unreachable("an answer that is none");
}

/* ---- The thread. ---- */

static void attention_note(struct flusher_worker *worker, const struct ferry_sense *sense)
{
	if (worker->attentions_count < FERRY_SGIO_ATTENTIONS_MAX)
		worker->attentions[worker->attentions_count++] = *sense;
}

static void flush(struct flusher_worker *worker)
{
	static const struct timespec pause = {.tv_nsec = WAIT_MS * (long)FERRY_NS_PER_MS};
	uint32_t repeats = 0, waits = 0;

	worker->attentions_count = 0;
	for (;;) {
		struct ferry_sgio_command command = {.cdb = {SYNCHRONIZE_CACHE_10},
						     .timeout_ms = TIMEOUT_MS};
		enum ferry_sgio_answer answer = ferry_sgio_send(worker->disk, &command);

		if (answer == FERRY_SGIO_ATTENTION)
			attention_note(worker, &command.sense);
		worker->end = ferry_sgio_flush_judge(answer, &command);
		if (worker->end.may_repeat && repeats++ < REPEATS_MAX)
			continue;
		if (!worker->end.may_wait || waits++ == WAITS_MAX)
			return;
		if (answer == FERRY_SGIO_BUSY)
			(void)nanosleep(&pause, NULL); /* Woken early, it asks early. */
	}
}

static void worker_unref(struct flusher_worker *worker)
{
	if (!worker || atomic_fetch_sub(&worker->references, 1) > 1)
		return;
	if (worker->disk >= 0)
		(void)close(worker->disk);
	if (worker->go_fd >= 0)
		(void)close(worker->go_fd);
	if (worker->done_fd >= 0)
		(void)close(worker->done_fd);
	free(worker);
}

static void worker_unrefp(struct flusher_worker **worker)
{
	worker_unref(*worker);
}

static void *thread_run(void *context)
{
	struct flusher_worker *worker = context;

	for (;;) {
		ferry_sgio_await(worker->go_fd);
		if (atomic_load(&worker->is_over))
			break;
		flush(worker);
		ferry_sgio_signal(worker->done_fd);
	}
	worker_unref(worker);
	return NULL;
}

/* ---- The loop's side. ---- */

static void send_next(struct ferry_sgio_flusher *flusher)
{
	if (flusher->is_out || ferry_list_is_empty(&flusher->waiting))
		return;
	ferry_assert(ferry_list_is_empty(&flusher->covered));
	ferry_list_move_all(&flusher->covered, &flusher->waiting);
	flusher->is_out = true;
	ferry_sgio_signal(flusher->worker->go_fd);
}

static void done_run(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_sgio_flusher *flusher =
		FERRY_CONTAINER_OF(watch, struct ferry_sgio_flusher, watch);
	struct flusher_worker *worker = flusher->worker;
	struct ferry_sgio_flush_end end;
	struct ferry_list *link;
	uint64_t count;

	(void)ready;
	if (read(watch->fd, &count, sizeof(count)) < 0)
		return;	   /* EAGAIN */
	end = worker->end; /* Only now: until then it was the thread's. */
	ferry_assert(flusher->is_out);
	flusher->is_in_callback = true;
	/* Before anybody takes the flush for done. */
	for (uint32_t i = 0; flusher->config.on_unit_attention && i < worker->attentions_count; i++)
		flusher->config.on_unit_attention(worker->attentions[i].asc,
						  worker->attentions[i].ascq,
						  flusher->config.context);
	flusher->is_out = false;
	ferry_list_move_all(&flusher->answered, &flusher->covered);
	send_next(flusher);
	while ((link = ferry_list_pop(&flusher->answered))) {
		struct ferry_flusher_request *request =
			ferry_list_entry(link, struct ferry_flusher_request, link);

		request->on_done(request, end.outcome, end.cause);
	}
	flusher->is_in_callback = false;
}

static void flusher_submit(struct ferry_flusher *port, struct ferry_flusher_request *request)
{
	struct ferry_sgio_flusher *flusher =
		FERRY_CONTAINER_OF(port, struct ferry_sgio_flusher, port);

	FERRY_ASSERT_ON_LOOP(flusher->config.loop);
	ferry_list_append(&flusher->waiting, &request->link);
	send_next(flusher);
}

static const struct ferry_flusher_ops flusher_ops = {
	.name = "sgio",
	.submit = flusher_submit,
};

/* ---- Opening and closing. ---- */

static bool is_scsi_disk(int fd)
{
	struct stat status;
	char text[32];

	return fstat(fd, &status) == 0 && S_ISBLK(status.st_mode) &&
	       ferry_line_read(text, sizeof(text), "/sys/dev/block/%u:%u/device/scsi_level",
			       major(status.st_rdev), minor(status.st_rdev)) == 0;
}

static struct flusher_worker *worker_new(int fd)
{
	struct flusher_worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		return NULL;
	atomic_init(&worker->references, 1);
	worker->disk = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	worker->go_fd = eventfd(0, EFD_CLOEXEC);
	worker->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return worker;
}

static void flusher_freep(struct ferry_sgio_flusher **flusher)
{
	free(*flusher);
}

int ferry_sgio_flusher_start(const struct ferry_sgio_flusher_config *config,
			     struct ferry_sgio_flusher **ret, struct ferry_error *reterr)
{
	_cleanup_(flusher_freep) struct ferry_sgio_flusher *flusher = calloc(1, sizeof(*flusher));
	_cleanup_(worker_unrefp) struct flusher_worker *worker = worker_new(config->fd);
	int r;

	if (!worker || !flusher)
		return ferry_error_set(reterr, -ENOMEM, "no memory for flushes");
	if (worker->disk < 0 || worker->go_fd < 0 || worker->done_fd < 0)
		return ferry_error_set(reterr, -EMFILE, "no descriptors for flushes");
	flusher->port.ops = &flusher_ops;
	flusher->config = *config;
	ferry_list_init(&flusher->waiting);
	ferry_list_init(&flusher->covered);
	ferry_list_init(&flusher->answered);
	flusher->watch = (struct ferry_watch){.run = done_run, .fd = worker->done_fd};
	r = config->loop->ops->watch_start(config->loop, &flusher->watch, FERRY_WATCH_READ);
	if (r < 0)
		return ferry_error_set(reterr, r, "flushes: %s", strerror(-r));
	atomic_fetch_add(&worker->references, 1);
	r = ferry_thread_start(&flusher->thread, FERRY_SGIO_STACK_BYTES, thread_run, worker);
	if (r < 0) {
		atomic_fetch_sub(&worker->references, 1);
		config->loop->ops->watch_stop(config->loop, &flusher->watch);
		return ferry_error_set(reterr, r, "no thread for flushes: %s", strerror(-r));
	}
	flusher->worker = TAKE_PTR(worker);
	*ret = TAKE_PTR(flusher);
	return 0;
}

int ferry_sgio_flusher_open(const struct ferry_sgio_flusher_config *config,
			    struct ferry_sgio_flusher **ret, struct ferry_error *reterr)
{
	ferry_assert(config && config->loop && ret);
	ferry_assert(config->fd >= 0);
	if (!is_scsi_disk(config->fd))
		return ferry_error_set(reterr, -EOPNOTSUPP, "it is no SCSI disk");
	return ferry_sgio_flusher_start(config, ret, reterr);
}

struct ferry_flusher *ferry_sgio_flusher_port(struct ferry_sgio_flusher *flusher)
{
	ferry_assert(flusher);
	return &flusher->port;
}

void ferry_sgio_flusher_close(struct ferry_sgio_flusher *flusher)
{
	if (!flusher)
		return;
	FERRY_ASSERT_ON_LOOP(flusher->config.loop);
	ferry_assert(!flusher->is_in_callback);
	flusher->config.loop->ops->watch_stop(flusher->config.loop, &flusher->watch);
	atomic_store(&flusher->worker->is_over, true);
	ferry_sgio_signal(flusher->worker->go_fd);
	if (flusher->is_out)
		(void)pthread_detach(flusher->thread); /* It has a reference of its own. */
	else
		(void)pthread_join(flusher->thread, NULL);
	worker_unref(flusher->worker);
	free(flusher);
}
