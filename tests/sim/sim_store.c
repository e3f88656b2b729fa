#include "tests/sim/sim_store.h"

#include <stdio.h>

static int find(const struct sim_store *store, const char *key)
{
	for (int i = 0; i < SIM_STORE_VALUES_MAX; i++)
		if (strcmp(store->values[i].key, key) == 0)
			return i;
	return -ENOENT;
}

static int store_load(struct ferry_store *store, const char *key, void *ret, size_t size_bytes)
{
	struct sim_store *self = FERRY_CONTAINER_OF(store, struct sim_store, store);
	int i = find(self, key);

	if (i < 0)
		return -ENOENT;
	if (self->values[i].length_bytes > size_bytes)
		return -ENOBUFS;
	memcpy(ret, self->values[i].bytes, self->values[i].length_bytes);
	return (int)self->values[i].length_bytes;
}

static int store_save(struct ferry_store *store, const char *key, const void *value,
		      size_t length_bytes)
{
	struct sim_store *self = FERRY_CONTAINER_OF(store, struct sim_store, store);
	bool fails = self->saves_to_fail > 0;
	int i = find(self, key);

	ferry_assert(length_bytes <= FERRY_STORE_VALUE_BYTES_MAX);
	self->saves++;
	self->saves_to_fail -= fails;
	if (fails && sim_chance(self->sim, SIM_STORAGE, 500))
		return -EIO;
	if (i < 0)
		i = find(self, "");
	ferry_assert(i >= 0);
	(void)snprintf(self->values[i].key, SIM_STORE_KEY_MAX, "%s", key);
	memcpy(self->values[i].bytes, value, length_bytes);
	self->values[i].length_bytes = length_bytes;
	return fails ? -EIO : 0;
}

static const struct ferry_store_ops sim_store_ops = {
	.name = "sim",
	.load = store_load,
	.save = store_save,
};

void sim_store_init(struct sim_store *store, struct sim *sim)
{
	*store = (struct sim_store){.store = {.ops = &sim_store_ops}, .sim = sim};
}
