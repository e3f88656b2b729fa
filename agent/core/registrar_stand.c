/* registrar_stand.c - see registrar_stand.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/registrar_stand.h"

struct registrar_stand on;
const struct ferry_key foreign = {0x0123456789abcdef};

struct ferry_key key(uint32_t node, uint64_t incarnation)
{
	return ferry_key_make((struct ferry_node){node}, (struct ferry_incarnation){incarnation});
}

static void fence_submit(struct ferry_fence *fence, struct ferry_fence_request *request)
{
	(void)fence;
	assert_null(on.pending);
	on.pending = request;
}

static const struct ferry_fence_ops fence_ops = {.name = "stand", .submit = fence_submit};

static void on_event(struct ferry_events *events, const struct ferry_event *event)
{
	(void)events;
	on.refusals += event->kind == FERRY_EVENT_ADMIN && event->severity == FERRY_SEVERITY_ERROR;
}

static bool on_is_being_laid(void *context)
{
	(void)context;
	return on.is_being_laid;
}

static void on_old_key(struct ferry_key elder, void *context)
{
	(void)context;
	on.old_keys++;
	on.old_key = elder;
}

static void on_preempted(void *context)
{
	(void)context;
	on.preempted++;
}

static uint64_t on_ask(void *context)
{
	(void)context;
	return ++on.words_asked;
}

static void on_join(void *context)
{
	(void)context;
	assert_false(ferry_router_local(&on.router)->is_allowed); /* Before it is. */
	on.joins++;
}

static void on_witness(uint64_t number, void *context)
{
	(void)context;
	on.witness = number;
}

static void on_taken(int error, void *context)
{
	(void)context;
	on.takes++;
	on.taken = error;
}

static void router_open(void)
{
	struct ferry_router_config config = stand_router_config(&on.stand);
	struct ferry_lane *lane;

	config.path_timeout_ns = config.hold_timeout_ns = 60 * FERRY_NS_PER_S;
	config.aborts_may_reset = true;
	assert_int_equal(ferry_router_init(&on.router, &on.stand.region, &config), 0);
	stand_path_init(&on.path, FERRY_PATH_LOCAL, 1, /* can_reset= */ true);
	assert_int_equal(
		ferry_router_add_path(&on.router, &on.path.path, /* needs_permit= */ true, &lane),
		0);
}

int registrar_setup(void **state)
{
	struct ferry_registrar_config config = {.loop = &on.stand.loop.loop,
						.events = &on.events,
						.pool = "pool",
						.fence = &on.fence,
						.router = &on.router,
						.view = &on.view,
						.own = key(1, 3),
						.is_being_laid = on_is_being_laid,
						.on_old_key = on_old_key,
						.on_preempted = on_preempted,
						.ask = on_ask,
						.on_witness = on_witness,
						.on_join = on_join,
						.on_taken = on_taken};

	(void)state;
	stand_open(&on.stand);
	router_open();
	on.fence = (struct ferry_fence){.ops = &fence_ops, .ability.laying = FERRY_LAYING_ABORT};
	on.events.emit = on_event;
	on.witness = 0;
	on.view = (struct ferry_view){.members = {.nodes = {{1}, {2}, {3}}, .count = 3},
				      .epoch = {5},
				      .owner = {2},
				      .is_quorate = true,
				      .is_in_force = true,
				      .may_register = true,
				      .may_help = true,
				      .word = 1000};
	on.pending = NULL;
	on.is_being_laid = false;
	on.words_asked = 0;
	on.old_keys = on.preempted = on.joins = on.takes = on.refusals = 0;
	on.taken = 1;
	ferry_registrar_init(&on.registrar, &config);
	return 0;
}

int registrar_teardown(void **state)
{
	(void)state;
	ferry_registrar_done(&on.registrar);
	for (uint32_t i = 0; i < on.path.count; i++)
		if (on.path.attempts[i])
			stand_done(&on.path, i);
	ferry_router_done(&on.router);
	stand_close(&on.stand);
	return 0;
}

bool is_allowed(void)
{
	return ferry_router_local(&on.router)->is_allowed;
}

void expect(enum ferry_fence_op op)
{
	assert_non_null(on.pending);
	assert_int_equal(on.pending->op, op);
	assert_true(on.pending->own.v == key(1, 3).v);
}

void answer(int error)
{
	struct ferry_fence_request *request = TAKE_PTR(on.pending);

	assert_non_null(request);
	request->on_done(request, error);
}

void answer_keys(struct keys keys)
{
	expect(FERRY_FENCE_READ_KEYS);
	on.pending->keys_count = 0;
	for (uint32_t i = 0; i < 4 && keys.keys[i].v != 0; i++)
		on.pending->keys[on.pending->keys_count++] = keys.keys[i];
	/* What lies behind them says nothing. */
	for (uint32_t i = on.pending->keys_count; i < FERRY_KEYS_MAX; i++)
		on.pending->keys[i] = i % 2 == 0 ? key(1, 3) : key(1, 2);
	on.pending->holder = keys.holder.v != 0 || keys.is_free ? keys.holder : key(2, 1);
	on.pending->generation = keys.generation ? keys.generation : 1000;
	answer(0);
}

void expect_preempt(struct ferry_key victim)
{
	expect(FERRY_FENCE_PREEMPT);
	assert_true(on.pending->victim.v == victim.v);
	assert_int_equal(on.router.resets_asked, 1); /* Every nexus may report a reset now. */
}

/* As node 2's: registered there, and this node's key is on the lun too. */
void join(void)
{
	ferry_registrar_session(&on.registrar, true);
	answer_keys(KEYS(.holder = key(2, 1), .generation = 10, .keys = {key(2, 1)}));
	expect(FERRY_FENCE_REGISTER);
	answer(0);
	assert_int_equal(on.registrar.state, FERRY_REGISTRAR_IN);
	assert_true(is_allowed());
}

void own(void)
{
	on.view.owner.v = 1;
}
