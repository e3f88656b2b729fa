/* sim_seeds.c - the command line's numbers, for ferry-sim and ferry-museum. */
#include "tests/sim/sim_seeds.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Digits up to @end; strtoull() alone would take "-1" for a very large seed. */
static const char *number_read(const char *text, uint64_t *ret)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return NULL;
	errno = 0;
	*ret = strtoull(text, &end, 0);
	return errno == 0 ? end : NULL;
}

bool sim_number_parse(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t value;
	const char *end = number_read(text, &value);

	if (!end || *end != '\0' || value > max)
		return false;
	*ret = value;
	return true;
}

bool sim_seeds_parse(const char *text, uint64_t *ret_first, uint64_t *ret_last)
{
	uint64_t first, last;
	const char *end = number_read(text, &first);

	if (!end || strncmp(end, "..", 2) != 0 || !sim_number_parse(end + 2, UINT64_MAX, &last) ||
	    first > last)
		return false;
	*ret_first = first;
	*ret_last = last;
	return true;
}

void sim_usage_error(const char *program, const char *what, const char *value)
{
	fprintf(stderr, "%s: %s%s\ntry: %s --help\n", program, what, value, program);
	exit(SIM_EXIT_USAGE);
}
