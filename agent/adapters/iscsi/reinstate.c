/*
 * Session reinstatement: logging in by another's name, so that the target ends that one's session.
 *
 * RFC 7143, 6.3.5: a login with the name and ISID of a living session has the target close that
 * session and terminate its commands before it answers. On targets for which a test shows that they
 * really wait (tests/target), the answer proves that nothing of it can land any more; whether the
 * old session's owner is silent, gone or frozen makes no difference, and nobody else is disturbed.
 * Our session by that name is closed at once: it was never meant to be used.
 */
#include <poll.h>

#include "agent/adapters/iscsi/private.h"

static void settle(struct ferry_iscsi *iscsi);

static void connected(struct iscsi_context *context, int status, void *data, void *private_data)
{
	struct ferry_iscsi_reinstatement *reinstatement = private_data;

	(void)context, (void)data;
	if (status == SCSI_STATUS_GOOD)
		reinstatement->is_connected = true;
	else
		reinstatement->has_failed = true;
}

static void logged_in(struct iscsi_context *context, int status, void *data, void *private_data)
{
	struct ferry_iscsi_reinstatement *reinstatement = private_data;

	(void)context, (void)data;
	if (status == SCSI_STATUS_GOOD)
		reinstatement->is_logged_in = true;
	else
		reinstatement->has_failed = true;
}

static void serve(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_iscsi *iscsi =
		FERRY_CONTAINER_OF(watch, struct ferry_iscsi, reinstatement.watch);
	struct ferry_iscsi_reinstatement *reinstatement = &iscsi->reinstatement;
	int events = 0;

	ferry_assert(reinstatement->context && reinstatement->is_watched);
	if (ready & FERRY_WATCH_READ)
		events |= POLLIN;
	if (ready & FERRY_WATCH_WRITE)
		events |= POLLOUT;
	if (iscsi_service(reinstatement->context, events) < 0)
		reinstatement->has_failed = true;
	settle(iscsi);
	ferry_iscsi_settle(iscsi);
}

static void arm(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_reinstatement *reinstatement = &iscsi->reinstatement;
	struct ferry_loop *loop = iscsi->config.loop;
	int events = iscsi_which_events(reinstatement->context);
	uint32_t wanted = (events & POLLIN ? FERRY_WATCH_READ : 0u) |
			  (events & POLLOUT ? FERRY_WATCH_WRITE : 0u);

	if (reinstatement->is_watched) {
		loop->ops->watch_set(loop, &reinstatement->watch, wanted);
		return;
	}
	reinstatement->watch =
		(struct ferry_watch){.run = serve, .fd = iscsi_get_fd(reinstatement->context)};
	if (loop->ops->watch_start(loop, &reinstatement->watch, wanted) < 0)
		return; /* The request's deadline ends it. */
	reinstatement->is_watched = true;
}

static void settle(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_reinstatement *reinstatement = &iscsi->reinstatement;
	bool is_logged_in = reinstatement->is_logged_in;

	if (reinstatement->is_connected && !reinstatement->is_logging_in) {
		reinstatement->is_logging_in = true;
		if (iscsi_login_async(reinstatement->context, logged_in, reinstatement) != 0)
			reinstatement->has_failed = true;
	}
	if (is_logged_in || reinstatement->has_failed) {
		if (!is_logged_in)
			ferry_iscsi_say_error(iscsi, "a login by the victim's name: %s",
					      iscsi_get_error(reinstatement->context));
		ferry_iscsi_reinstate_stop(iscsi);
		ferry_iscsi_fence_reinstated(iscsi, is_logged_in ? 0 : -EIO);
		return;
	}
	arm(iscsi);
}

void ferry_iscsi_reinstate(struct ferry_iscsi *iscsi, const struct ferry_iscsi_registrant *whom)
{
	struct ferry_iscsi_reinstatement *reinstatement = &iscsi->reinstatement;

	ferry_assert(!reinstatement->context);
	ferry_assert(whom->has_name);
	*reinstatement = (struct ferry_iscsi_reinstatement){
		.context = iscsi_create_context(whom->initiator)};
	if (!reinstatement->context)
		return; /* No memory: the request's deadline ends it. */
	if (ferry_iscsi_session_prepare(iscsi, reinstatement->context, whom->qualifier) < 0 ||
	    iscsi_connect_async(reinstatement->context, iscsi->portal, connected, reinstatement) !=
		    0) {
		ferry_iscsi_reinstate_stop(iscsi);
		return;
	}
	arm(iscsi);
}

void ferry_iscsi_reinstate_stop(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_reinstatement *reinstatement = &iscsi->reinstatement;
	struct ferry_loop *loop = iscsi->config.loop;

	if (!reinstatement->context)
		return;
	if (reinstatement->is_watched)
		loop->ops->watch_stop(loop, &reinstatement->watch);
	(void)iscsi_destroy_context(TAKE_PTR(reinstatement->context)); /* It cannot fail. */
	*reinstatement = (struct ferry_iscsi_reinstatement){0};
}
