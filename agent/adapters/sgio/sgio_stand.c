/*
 * sgio_stand - the adapter by hand, for tests/vm:
 *
 *     sgio_stand DEVICE [timeout=SECONDS] [quiesce=SECONDS] REQUEST...
 *
 * Requests, one after another: keys, register:OWN, reserve:OWN, preempt:OWN:VICTIM, keys in
 * hexadecimal. A registration takes the place of what keys has read just before, else of none. A
 * line for each: "REQUEST: 0 in 0.012 s" or the error's name; after keys also
 * "keys GENERATION HOLDER KEY...". Exits 0 if the last one was good, 1 if not, 2 if the device
 * could not be opened, 3 if its class is "no reservations".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/sgio/sgio.h"
#include "agent/adapters/uring/loop.h"

struct stand {
	struct ferry_uring_loop *loop;
	struct ferry_sgio *sgio;
	char **words;
	int words_left;
	struct ferry_fence_request request;
	struct ferry_task task;
	uint64_t began_ns;
	int error;
};

static void go_on(struct stand *stand);

static void done(struct ferry_fence_request *request, int error)
{
	struct stand *stand = request->context;
	uint64_t took_ns = ferry_loop_now_ns(ferry_uring_loop_of(stand->loop)) - stand->began_ns;

	(void)printf("%s: %s in %.3f s\n", *stand->words, error < 0 ? strerrorname_np(-error) : "0",
		     (double)took_ns / (double)FERRY_NS_PER_S);
	if (error == 0 && request->op == FERRY_FENCE_READ_KEYS) {
		(void)printf("keys %u %" PRIx64, request->generation, request->holder.v);
		for (uint32_t i = 0; i < request->keys_count; i++)
			(void)printf(" %" PRIx64, request->keys[i].v);
		(void)printf("\n");
	}
	(void)fflush(stdout); /* Read while it waits for the next. */
	stand->error = error;
	stand->words++;
	stand->words_left--;
	go_on(stand);
}

static int word_read(const char *word, struct ferry_fence_request *ret)
{
	if (strcmp(word, "keys") == 0)
		ret->op = FERRY_FENCE_READ_KEYS;
	else if (sscanf(word, "register:%" SCNx64, &ret->own.v) == 1)
		ret->op = FERRY_FENCE_REGISTER;
	else if (sscanf(word, "reserve:%" SCNx64, &ret->own.v) == 1)
		ret->op = FERRY_FENCE_RESERVE;
	else if (sscanf(word, "preempt:%" SCNx64 ":%" SCNx64, &ret->own.v, &ret->victim.v) == 2)
		ret->op = FERRY_FENCE_PREEMPT;
	else
		return -EINVAL;
	return 0;
}

static void go_on(struct stand *stand)
{
	struct ferry_fence_request before = stand->request;

	if (stand->words_left == 0) {
		ferry_uring_loop_stop(stand->loop);
		return;
	}
	stand->request = (struct ferry_fence_request){.on_done = done, .context = stand};
	if (word_read(*stand->words, &stand->request) < 0) {
		(void)fprintf(stderr, "%s: no such request\n", *stand->words);
		exit(2);
	}
	if (stand->request.op == FERRY_FENCE_REGISTER)
		stand->request.kept = ferry_fence_kept(&before, stand->request.own);
	stand->began_ns = ferry_loop_now_ns(ferry_uring_loop_of(stand->loop));
	ferry_fence_submit(ferry_sgio_fence(stand->sgio), &stand->request);
}

static void begin(struct ferry_task *task)
{
	go_on(FERRY_CONTAINER_OF(task, struct stand, task));
}

static void attention(uint8_t asc, uint8_t ascq, void *context)
{
	(void)context;
	(void)printf("attention %02x/%02x\n", asc, ascq);
}

int main(int argc, char **argv)
{
	struct stand stand = {.words = argv + 2, .words_left = argc - 2, .task.run = begin};
	struct ferry_sgio_config config = {.on_unit_attention = attention};
	struct ferry_error error;
	unsigned int seconds;
	int r;

	if (argc < 2) {
		(void)fprintf(stderr, "usage: sgio_stand DEVICE [timeout=SECONDS] REQUEST...\n");
		return 2;
	}
	if (argc > 2 && sscanf(argv[2], "timeout=%u", &seconds) == 1) {
		config.timeout_ns = seconds * FERRY_NS_PER_S;
		stand.words++;
		stand.words_left--;
	}
	if (stand.words_left > 0 && sscanf(*stand.words, "quiesce=%u", &seconds) == 1) {
		config.quiesce_time_ns = seconds * FERRY_NS_PER_S;
		stand.words++;
		stand.words_left--;
	}
	r = ferry_uring_loop_open(&stand.loop, &error);
	if (r == 0) {
		config.loop = ferry_uring_loop_of(stand.loop);
		config.path = argv[1];
		r = ferry_sgio_open(&config, &stand.sgio, &error);
	}
	if (r < 0) {
		(void)fprintf(stderr, "%s\n", error.message);
		return r == -EOPNOTSUPP ? 3 : 2;
	}
	ferry_task_post(config.loop, &stand.task);
	r = ferry_uring_loop_run(stand.loop);
	ferry_sgio_close(stand.sgio);
	(void)ferry_uring_loop_close(stand.loop);
	return r < 0 || stand.error < 0 ? 1 : 0;
}
