/*
 * main.c - ferryd: one node's agent.
 *
 * The starting thread opens everything, starts the data thread, and becomes the cluster thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/common/thread.h"
#include "agent/cluster.h"
#include "agent/data.h"
#include "agent/settings.h"
#include "agent/system.h"

enum { EXIT_STOPPED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct data_thread {
	struct ferry_data *data;
	struct ferry_cluster *cluster;
	pthread_t thread;
};

static void *data_main(void *context)
{
	struct data_thread *self = context;
	int r;

	(void)pthread_setname_np(pthread_self(), "ferry-data");
	r = ferry_data_run(self->data);
	if (r < 0)
		fprintf(stderr, "ferryd: the data thread: %s\n", strerror(-r));
	ferry_cluster_data_ended(self->cluster);
	return NULL;
}

static int say(const struct ferry_error *error, int code)
{
	fprintf(stderr, "ferryd: %s\n", error->message);
	return code;
}

/* Everything is open: run until asked to stop. */
static int run(struct ferry_cluster *cluster, struct ferry_data *data)
{
	struct data_thread thread = {.data = data, .cluster = cluster};
	struct ferry_error error;
	int r;

	r = ferry_cluster_start(cluster, data, &error);
	if (r < 0)
		return say(&error, EXIT_FAILED);
	r = ferry_thread_start(&thread.thread, 0, data_main, &thread);
	if (r < 0) {
		fprintf(stderr, "ferryd: no data thread: %s\n", strerror(-r));
		return EXIT_FAILED;
	}
	r = ferry_cluster_run(cluster);
	if (r == -ETIMEDOUT)
		_exit(EXIT_FAILED); /* The data thread is in the kernel's hands. */
	(void)pthread_join(thread.thread, NULL);
	return r < 0 ? EXIT_FAILED : EXIT_STOPPED;
}

static int start(struct ferry_settings *settings)
{
	_cleanup_(ferry_cluster_closep) struct ferry_cluster *cluster = NULL;
	_cleanup_(ferry_data_closep) struct ferry_data *data = NULL;
	struct ferry_data_config config;
	struct ferry_system system;
	struct ferry_error error;

	ferry_system_prepare(&system);
	if (ferry_cluster_open(settings, &system, &cluster, &config, &error) < 0)
		return say(&error, error.code == -EINVAL ? EXIT_USAGE : EXIT_FAILED);
	if (ferry_data_open(&config, &data, &error) < 0)
		return say(&error, error.code == -EINVAL ? EXIT_USAGE : EXIT_FAILED);
	return run(cluster, data);
}

static void say_right(const struct ferry_settings *settings)
{
	const char *warning = ferry_settings_warning(settings);

	if (warning)
		fprintf(stderr, "ferryd: warning: %s: %s\n", settings->file, warning);
	printf("the configuration is right\n");
}

int main(int argc, char **argv)
{
	struct ferry_settings *settings = calloc(1, sizeof(*settings));
	struct ferry_error error;
	int code = EXIT_STOPPED;

	if (!settings) {
		fprintf(stderr, "ferryd: no memory\n");
		return EXIT_FAILED;
	}
	if (ferry_settings_read(settings, argc, argv, &error) < 0)
		code = say(&error, EXIT_USAGE);
	else if (settings->action == FERRY_SETTINGS_HELP)
		printf("%s", ferry_settings_help);
	else if (settings->action == FERRY_SETTINGS_VERSION)
		printf("ferryd %s\n", FERRY_VERSION);
	else if (settings->action == FERRY_SETTINGS_CHECK &&
		 ferry_settings_check_files(settings, &error) < 0)
		code = say(&error, EXIT_USAGE);
	else if (settings->action == FERRY_SETTINGS_WITHDRAW &&
		 ferry_cluster_withdraw(settings, &error) < 0)
		code = say(&error, EXIT_FAILED);
	else if (settings->action == FERRY_SETTINGS_WITHDRAW)
		code = EXIT_STOPPED;
	else if (settings->action == FERRY_SETTINGS_CHECK)
		say_right(settings);
	else
		code = start(settings);
	free(settings);
	return code;
}
