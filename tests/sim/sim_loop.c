#include "tests/sim/sim_loop.h"

static struct sim_loop *of(struct ferry_loop *loop)
{
	return FERRY_CONTAINER_OF(loop, struct sim_loop, loop);
}

static bool is_before(const struct ferry_timer *a, const struct ferry_timer *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->sequence < b->sequence;
}

/* Few timers per node: a search is as good as a heap, and simpler. */
static struct ferry_timer *first_timer(const struct sim_loop *loop)
{
	struct ferry_timer *first = NULL;

	for (uint32_t i = 0; i < loop->timers_count; i++)
		if (!first || is_before(loop->timers[i], first))
			first = loop->timers[i];
	return first;
}

uint64_t sim_loop_now_ns(const struct sim_loop *loop)
{
	uint64_t world_ns = loop->is_stopped ? loop->stopped_since_ns : loop->sim->now_ns;
	uint64_t run_ns = world_ns - loop->origin_ns;

	return world_ns - loop->stopped_ns +
	       (uint64_t)((int64_t)run_ns / 1000000 * loop->drift_ppm);
}

/* When its clock will say @local_ns, or a little later. */
static uint64_t world_ns(const struct sim_loop *loop, uint64_t local_ns)
{
	uint64_t now_ns = sim_loop_now_ns(loop);
	uint64_t left_ns = local_ns > now_ns ? local_ns - now_ns : 0;

	if (loop->drift_ppm == 0)
		return loop->sim->now_ns + left_ns;
	/* Its clock moves by steps of a millisecond's drift. */
	left_ns = (uint64_t)((int64_t)left_ns - (int64_t)left_ns / 1000000 * loop->drift_ppm);
	return loop->sim->now_ns + left_ns + left_ns / 1000000 + 1000;
}

static void rearm(struct sim_loop *loop)
{
	const struct ferry_timer *first = first_timer(loop);

	if (loop->is_frozen || !first)
		sim_cancel(loop->sim, &loop->timer_event);
	else
		sim_at(loop->sim, &loop->timer_event, world_ns(loop, first->deadline_ns));
	if (loop->is_frozen || ferry_list_is_empty(&loop->tasks))
		sim_cancel(loop->sim, &loop->task_event);
	else if (!sim_is_due(&loop->task_event))
		sim_in(loop->sim, &loop->task_event, 0);
}

static uint64_t loop_now_ns(struct ferry_loop *loop)
{
	return sim_loop_now_ns(of(loop));
}

static void loop_timer_stop(struct ferry_loop *loop, struct ferry_timer *timer)
{
	struct sim_loop *self = of(loop);

	if (timer->heap_slot == 0)
		return;
	ferry_assert(self->timers[timer->heap_slot - 1] == timer);
	self->timers[timer->heap_slot - 1] = self->timers[--self->timers_count];
	self->timers[timer->heap_slot - 1]->heap_slot = timer->heap_slot;
	timer->heap_slot = 0;
	rearm(self);
}

static void loop_timer_start(struct ferry_loop *loop, struct ferry_timer *timer,
			     uint64_t deadline_ns)
{
	struct sim_loop *self = of(loop);

	loop_timer_stop(loop, timer);
	ferry_assert(self->timers_count < SIM_TIMERS_MAX);
	timer->deadline_ns = deadline_ns;
	timer->sequence = self->sequence_next++;
	self->timers[self->timers_count++] = timer;
	timer->heap_slot = self->timers_count;
	rearm(self);
}

static void loop_task_post(struct ferry_loop *loop, struct ferry_task *task)
{
	struct sim_loop *self = of(loop);

	if (task->is_posted)
		return;
	task->is_posted = true;
	ferry_list_init(&task->link);
	ferry_list_append(&self->tasks, &task->link);
	rearm(self);
}

static void loop_task_cancel(struct ferry_loop *loop, struct ferry_task *task)
{
	if (!task->is_posted)
		return;
	task->is_posted = false;
	ferry_list_remove(&task->link);
	rearm(of(loop));
}

static bool loop_is_current(struct ferry_loop *loop)
{
	return !of(loop)->is_frozen;
}

static void timer_run(struct sim_event *event)
{
	struct sim_loop *loop = FERRY_CONTAINER_OF(event, struct sim_loop, timer_event);
	struct ferry_timer *timer = first_timer(loop);

	ferry_assert(timer);
	if (timer->deadline_ns > sim_loop_now_ns(loop)) {
		rearm(loop); /* By a clock that drifts one cannot foresee to the nanosecond. */
		return;
	}
	loop_timer_stop(&loop->loop, timer);
	timer->run(timer);
	/* A crash from inside is an event of its own, so the loop is still there. */
	rearm(loop);
}

static void task_run(struct sim_event *event)
{
	struct sim_loop *loop = FERRY_CONTAINER_OF(event, struct sim_loop, task_event);
	struct ferry_list *link = ferry_list_pop(&loop->tasks);
	struct ferry_task *task;

	ferry_assert(link);
	task = ferry_list_entry(link, struct ferry_task, link);
	task->is_posted = false;
	task->run(task);
	rearm(loop);
}

static const struct ferry_loop_ops sim_loop_ops = {
	.name = "sim",
	.now_ns = loop_now_ns,
	.timer_start = loop_timer_start,
	.timer_stop = loop_timer_stop,
	.task_post = loop_task_post,
	.task_cancel = loop_task_cancel,
	.is_current = loop_is_current,
};

void sim_loop_init(struct sim_loop *loop, struct sim *sim, uint32_t node)
{
	*loop = (struct sim_loop){
		.loop = {.ops = &sim_loop_ops},
		.sim = sim,
		.node = node,
		.sequence_next = 1,
		.origin_ns = sim->now_ns,
		.timer_event = {.kind = SIM_LOOP, .node = node, .value = 1, .run = timer_run},
		.task_event = {.kind = SIM_LOOP, .node = node, .value = 2, .run = task_run},
	};
	ferry_list_init(&loop->tasks);
	ferry_list_init(&loop->late);
}

void sim_loop_done(struct sim_loop *loop)
{
	sim_cancel(loop->sim, &loop->timer_event);
	sim_cancel(loop->sim, &loop->task_event);
	loop->timers_count = 0;
	ferry_list_init(&loop->tasks);
	ferry_list_init(&loop->late); /* Whoever owns an input lets go of it. */
}

void sim_loop_stop_clock(struct sim_loop *loop)
{
	ferry_assert(loop->is_frozen && !loop->is_stopped);
	loop->is_stopped = true;
	loop->stopped_since_ns = loop->sim->now_ns;
}

void sim_loop_freeze(struct sim_loop *loop)
{
	loop->is_frozen = true;
	rearm(loop);
}

void sim_loop_wake(struct sim_loop *loop)
{
	struct ferry_list *link;

	ferry_assert(loop->is_frozen);
	loop->is_frozen = false;
	if (loop->is_stopped)
		loop->stopped_ns += loop->sim->now_ns - loop->stopped_since_ns;
	loop->is_stopped = false;
	rearm(loop);
	while ((link = ferry_list_pop(&loop->late))) {
		struct sim_input *input = ferry_list_entry(link, struct sim_input, link);

		sim_in(loop->sim, &input->event, 0);
	}
}

static void input_run(struct sim_event *event)
{
	struct sim_input *input = FERRY_CONTAINER_OF(event, struct sim_input, event);

	if (input->loop->is_frozen)
		ferry_list_append(&input->loop->late, &input->link);
	else
		input->run(input);
}

void sim_input_init(struct sim_input *input, struct sim_loop *loop, enum sim_kind kind,
		    void (*run)(struct sim_input *input))
{
	*input = (struct sim_input){
		.event = {.kind = kind, .node = loop->node, .run = input_run},
		.loop = loop,
		.run = run,
	};
	ferry_list_init(&input->link);
}

void sim_input_at(struct sim_input *input, uint64_t time_ns)
{
	ferry_list_remove(&input->link);
	sim_at(input->loop->sim, &input->event, time_ns);
}

void sim_input_in(struct sim_input *input, uint64_t delay_ns)
{
	sim_input_at(input, input->loop->sim->now_ns + delay_ns);
}

void sim_input_cancel(struct sim_input *input)
{
	if (!input->loop)
		return;
	ferry_list_remove(&input->link);
	sim_cancel(input->loop->sim, &input->event);
}

void sim_input_disown(struct sim_input *input)
{
	sim_input_cancel(input);
	input->loop = NULL;
}

bool sim_input_is_due(const struct sim_input *input)
{
	return sim_is_due(&input->event) || ferry_list_is_linked(&input->link);
}
