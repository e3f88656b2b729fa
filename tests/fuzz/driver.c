/*
 * driver - runs a fuzz target without libFuzzer: the corpus, then mutations of it, from one seed.
 *
 * usage: NAME_fuzz RUNS SEED CORPUS-FOLDER
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/prng.h"

enum { INPUTS_MAX = 512, INPUT_BYTES_MAX = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static uint8_t inputs[INPUTS_MAX][INPUT_BYTES_MAX];
static size_t inputs_bytes[INPUTS_MAX];

static size_t corpus_read(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	size_t count = 0;

	if (!dir)
		return 0;
	while (count < INPUTS_MAX && (entry = readdir(dir))) {
		char path[4096];
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		file = fopen(path, "rb");
		if (!file)
			continue;
		inputs_bytes[count] = fread(inputs[count], 1, INPUT_BYTES_MAX, file);
		count++;
		(void)fclose(file); /* Only read. */
	}
	(void)closedir(dir); /* Only read. */
	return count;
}

static void mutate(struct ferry_prng *prng, size_t count)
{
	size_t which = ferry_prng_below(prng, count);
	size_t length_bytes = inputs_bytes[which];
	uint8_t bytes[INPUT_BYTES_MAX];

	memcpy(bytes, inputs[which], sizeof(bytes));
	if (ferry_prng_below(prng, 8) == 0)
		length_bytes = ferry_prng_below(prng, length_bytes + 1);
	for (uint64_t n = ferry_prng_below(prng, 5); n > 0 && length_bytes > 0; n--) {
		size_t at = ferry_prng_below(prng, length_bytes);

		if (ferry_prng_below(prng, 2))
			bytes[at] ^= (uint8_t)(1u << ferry_prng_below(prng, 8));
		else
			bytes[at] = (uint8_t)ferry_prng_next(prng);
	}
	(void)LLVMFuzzerTestOneInput(bytes, length_bytes); /* Always 0. */
}

int main(int argc, char **argv)
{
	struct ferry_prng prng = {};
	uint64_t runs;
	size_t count;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: %s RUNS SEED CORPUS-FOLDER\n", argv[0]);
		return 2;
	}
	runs = strtoull(argv[1], NULL, 10);
	prng.state = strtoull(argv[2], NULL, 10);
	count = corpus_read(argv[3]);
	if (count == 0) {
		(void)fprintf(stderr, "%s: no corpus in %s\n", argv[0], argv[3]);
		return 1;
	}
	for (size_t i = 0; i < count; i++)
		(void)LLVMFuzzerTestOneInput(inputs[i], inputs_bytes[i]); /* Always 0. */
	for (uint64_t i = 0; i < runs; i++)
		mutate(&prng, count);
	printf("%zu inputs and %lu mutations of them: fine\n", count, runs);
	return 0;
}
