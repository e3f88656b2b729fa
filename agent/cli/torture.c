/*
 * torture.c - ferry torture: faults in a scratch volume's I/O, by the agent's own fault layer,
 * under a workload that knows what it wrote, and a report.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "agent/cli/cli.h"
#include "agent/torture/load.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

enum {
	SECONDS_DEFAULT = 60,
	SIZE_BYTES_MAX = 4 * 1024 * 1024, /* Small: the more often blocks meet. */
	DEPTH = 16,
	WIPE_SECONDS = 60,
	END_SECONDS = 180,
};

/* The pool's figures, of which a run is the difference. */
struct pool_figures {
	uint64_t detours;
	uint64_t ghosts_laid;
	uint64_t failures;
};

struct torture {
	const struct cli_agent *agent;
	const char *volume;
	char pool[CLI_CELL_BYTES];
	char uri[CLI_CELL_BYTES];
	uint64_t size_bytes;
	uint64_t seconds;
	uint64_t seed;
	bool is_read; /* At the end, all of it. */
	struct pool_figures before, after;
	Ferry__V1__Faults faults_before, faults; /* No strings in them. */
	struct torture_load *load;
};

/* ---- What the agent says. ---- */

/* Why, as far as known; without quorum neither another node nor an acquire would help. */
static int not_served(const struct torture *torture, const Ferry__V1__Volume *volume,
		      struct ferry_error *reterr)
{
	struct cli_standing standing;
	int r;

	r = cli_standing_get(torture->agent, &standing, reterr);
	if (r == 0)
		r = cli_quorum_check(&standing, "nothing is served on this node", reterr);
	if (r < 0)
		return r;
	if (volume->state == FERRY__V1__POOL_STATE__POOL_STATE_HOLDING)
		return ferry_error_set(reterr, -EPERM, "volume %s is not served just now: %s",
				       torture->volume, volume->reason);
	return ferry_error_set(
		reterr, -EPERM,
		"volume %s is not served on this node (%s): run it where the pool is "
		"owned, or ferry acquire %s",
		torture->volume, volume->reason, torture->pool);
}

static int volume_take(struct torture *torture, const Ferry__V1__Volume *volume,
		       struct ferry_error *reterr)
{
	const char *uri = torture->agent->options->nbd;

	(void)snprintf(torture->pool, sizeof(torture->pool), "%s", volume->pool);
	(void)snprintf(torture->uri, sizeof(torture->uri), "%s", uri ? uri : volume->uri);
	torture->size_bytes = ferry_min_u64(volume->size_bytes, SIZE_BYTES_MAX);
	if (!volume->scratch)
		return ferry_error_set(
			reterr, -EPERM,
			"volume %s is not marked scratch, and this overwrites it. If its data are "
			"worth nothing: scratch = yes in [pool %s] of each node's ferryd.conf, and "
			"start the agents anew (one that stands alone has no such pools)",
			torture->volume, torture->pool);
	if (!volume->serving)
		return not_served(torture, volume, reterr);
	if (!torture->uri[0])
		return ferry_error_set(reterr, -EPERM,
				       "volume %s has no NBD front end: [nbd] in ferryd.conf",
				       torture->volume);
	return 0;
}

static int volume_find(struct torture *torture, struct ferry_error *reterr)
{
	Ferry__V1__ListVolumesRequest request = FERRY__V1__LIST_VOLUMES_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	const Ferry__V1__VolumeList *list;
	const Ferry__V1__Volume *found = NULL;
	int r;

	r = cli_call(torture->agent, "ListVolumes", &request.base,
		     &ferry__v1__volume_list__descriptor, &message, reterr);
	if (r < 0)
		return r;
	list = (const Ferry__V1__VolumeList *)message;
	for (size_t i = 0; i < list->n_volumes; i++)
		if (strcmp(list->volumes[i]->name, torture->volume) == 0)
			found = list->volumes[i];
	if (found)
		r = volume_take(torture, found, reterr);
	else
		r = ferry_error_set(reterr, -ENOENT, "no such volume on this node: %s",
				    torture->volume);
	protobuf_c_message_free_unpacked(message, NULL);
	return r;
}

static int figures_ask(struct torture *torture, struct pool_figures *ret,
		       struct ferry_error *reterr)
{
	Ferry__V1__GetStatusRequest request = FERRY__V1__GET_STATUS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	const Ferry__V1__Status *status;
	int r;

	r = cli_call(torture->agent, "GetStatus", &request.base, &ferry__v1__status__descriptor,
		     &message, reterr);
	if (r < 0)
		return r;
	status = (const Ferry__V1__Status *)message;
	for (size_t i = 0; i < status->n_pools; i++)
		if (strcmp(status->pools[i]->name, torture->pool) == 0)
			*ret = (struct pool_figures){
				.detours = status->pools[i]->detours,
				.ghosts_laid = status->pools[i]->ghosts_laid,
				.failures = status->pools[i]->failures,
			};
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

static int faults_arm(struct torture *torture, const char *plan, Ferry__V1__Faults *ret,
		      struct ferry_error *reterr)
{
	Ferry__V1__ArmFaultsRequest request = FERRY__V1__ARM_FAULTS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int r;

	request.volume = (char *)(uintptr_t)torture->volume; /* Only read. */
	request.faults = (char *)(uintptr_t)plan;
	r = cli_call(torture->agent, "ArmFaults", &request.base, &ferry__v1__faults__descriptor,
		     &message, reterr);
	if (r < 0)
		return r;
	*ret = *(const Ferry__V1__Faults *)message;
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

/* ---- The report. ---- */

static void row(struct json_object *object, const char *name, uint64_t value)
{
	(void)json_object_object_add(object, name, json_object_new_uint64(value));
}

static struct json_object *report_make(const struct torture *torture)
{
	const struct torture_figures *figures = &torture->load->figures;
	const Ferry__V1__Faults *old = &torture->faults_before, *now = &torture->faults;
	struct json_object *report = json_object_new_object();

	(void)json_object_object_add(report, "volume", json_object_new_string(torture->volume));
	row(report, "seed", torture->seed);
	row(report, "seconds", torture->seconds);
	row(report, "reads", figures->reads);
	row(report, "writes", figures->writes);
	row(report, "fua_writes", figures->fua_writes);
	row(report, "zeroes", figures->zeroes);
	row(report, "trims", figures->trims);
	row(report, "flushes", figures->flushes);
	row(report, "io_errors", figures->errors);
	row(report, "cut_off", figures->cut_off);
	row(report, "sectors_checked", torture->load->check.sectors_checked);
	row(report, "sectors_mixed", torture->load->check.sectors_mixed);
	row(report, "errors_injected", now->errors - old->errors);
	row(report, "delays_injected", now->delays - old->delays);
	row(report, "requests_lost", now->lost_requests - old->lost_requests);
	row(report, "answers_lost", now->lost_answers - old->lost_answers);
	row(report, "ghosts_injected", now->ghosts - old->ghosts);
	row(report, "ghosts_landed", now->ghosts_landed - old->ghosts_landed);
	row(report, "ghosts_refused", now->ghosts_refused - old->ghosts_refused);
	row(report, "ghosts_dropped", now->ghosts_dropped - old->ghosts_dropped);
	row(report, "ghosts_laid", torture->after.ghosts_laid - torture->before.ghosts_laid);
	row(report, "detours", torture->after.detours - torture->before.detours);
	row(report, "stall_ms_max", figures->stall_ns_max / FERRY_NS_PER_MS);
	row(report, "latency_ms_max", figures->latency_ns_max / FERRY_NS_PER_MS);
	(void)json_object_object_add(report, "all_read_at_end",
				     json_object_new_boolean(torture->is_read));
	row(report, "violations", figures->violations);
	return report;
}

static void report_print(const struct torture *torture)
{
	struct json_object *report = report_make(torture);

	if (torture->agent->options->is_json) {
		printf("%s\n", json_object_to_json_string_ext(
				       report, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED));
	} else {
		json_object_object_foreach(report, name, value)
			printf("%-16s %s\n", name, json_object_get_string(value));
	}
	if (torture->load->report != stderr) {
		fprintf(torture->load->report, "%s\n",
			json_object_to_json_string_ext(report, JSON_C_TO_STRING_PRETTY |
								       JSON_C_TO_STRING_SPACED));
		(void)fflush(torture->load->report);
	}
	json_object_put(report);
}

/* ---- A run. ---- */

static int faults_under_load(struct torture *torture, struct ferry_error *reterr)
{
	const uint64_t end_ns = torture_now_ns() + torture->seconds * FERRY_NS_PER_S;
	struct torture_load *load = torture->load;
	char plan[64];
	int r;

	(void)snprintf(plan, sizeof(plan),
		       "error=30,delay=100,hole=1,ghost=2,seconds=%" PRIu64 ",seed=%" PRIu64,
		       torture->seconds, torture->seed);
	r = faults_arm(torture, plan, &torture->faults, reterr);
	while (r == 0 && torture_now_ns() < end_ns)
		torture_load_run(load, 5, -1, NULL);
	if (r == 0) /* Also when it disarms itself: these are the figures. */
		r = faults_arm(torture, "off", &torture->faults, reterr);
	return r;
}

static int load_finish(struct torture *torture, struct ferry_error *reterr)
{
	const uint64_t end_ns = torture_now_ns() + END_SECONDS * FERRY_NS_PER_S;
	struct torture_load *load = torture->load;

	while (!torture_load_end(load) && torture_now_ns() < end_ns)
		torture_load_run(load, 20, -1, NULL);
	if (load->busy > 0)
		return ferry_error_set(reterr, -EIO, "%u I/Os do not end", load->busy);
	torture->is_read = torture_load_read_all(load, END_SECONDS * FERRY_NS_PER_S);
	for (uint32_t i = 0; i < load->clients_count; i++)
		load->figures.violations += load->clients[i].unasked;
	return 0;
}

/* The first I/O: a front end that is not there shows here. */
static int wipe(struct torture *torture, struct ferry_error *reterr)
{
	struct ferry_error why;
	int r;

	r = torture_load_wipe(torture->load, WIPE_SECONDS * FERRY_NS_PER_S, &why);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s%s: %s",
				       torture->agent->options->nbd ? "--nbd " : "", torture->uri,
				       why.message);
	return 0;
}

static int torture_run(struct torture *torture, struct ferry_error *reterr)
{
	struct torture_load *load = torture->load;
	int r;

	/* Nobody uses it, and no other run begins from here on, until this one has connected. */
	r = faults_arm(torture, "seconds=10", &torture->faults_before, reterr);
	if (r == 0)
		r = torture_load_add(load, torture->uri, reterr);
	if (r == 0)
		r = wipe(torture, reterr);
	if (r == 0)
		r = figures_ask(torture, &torture->before, reterr);
	if (r == 0)
		r = faults_arm(torture, "off", &torture->faults_before, reterr);
	if (r == 0)
		r = faults_under_load(torture, reterr);
	if (r == 0)
		r = load_finish(torture, reterr);
	if (r == 0)
		r = figures_ask(torture, &torture->after, reterr);
	if (r < 0)
		return r;
	report_print(torture);
	if (load->figures.violations > 0)
		return ferry_error_set(reterr, -EBADMSG,
				       "%" PRIu64
				       " violations: a disk could not have returned that",
				       load->figures.violations);
	if (!torture->is_read)
		return ferry_error_set(reterr, -EIO, "the volume could not be read at the end");
	return 0;
}

static int report_open(struct torture *torture, struct ferry_error *reterr)
{
	const char *path = torture->agent->options->report;

	torture->load->report = stderr;
	if (!path)
		return 0;
	torture->load->report = fopen(path, "we");
	if (torture->load->report)
		return 0;
	torture->load->report = stderr;
	return ferry_error_set(reterr, -EIO, "%s: %s", path, strerror(errno));
}

int cli_torture(const struct cli_agent *agent, struct ferry_error *reterr)
{
	const struct cli_options *options = agent->options;
	struct torture torture = {
		.agent = agent,
		.volume = options->arguments[0],
		.seconds = options->seconds ? options->seconds : SECONDS_DEFAULT,
		.seed = options->seed ? options->seed : (uint64_t)time(NULL) % 999999 + 1,
	};
	struct torture_config config = {
		.seed = torture.seed, .depth = DEPTH, .think_ns = 2 * FERRY_NS_PER_MS};
	int r;

	r = volume_find(&torture, reterr);
	if (r < 0)
		return r;
	torture.load = calloc(1, sizeof(*torture.load));
	if (!torture.load)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	config.size_bytes = torture.size_bytes;
	r = torture_load_init(torture.load, &config, reterr);
	if (r == 0)
		r = report_open(&torture, reterr);
	if (r == 0)
		r = torture_run(&torture, reterr);
	if (torture.load->report && torture.load->report != stderr &&
	    torture.load->report != stdout)
		(void)fclose(torture.load->report);
	torture_load_done(torture.load);
	free(torture.load);
	return r;
}
