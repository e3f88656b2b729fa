#include "agent/core/flush.h"

#include "agent/base/museum.h"

void ferry_flush_init(struct ferry_flush *flush)
{
	ferry_assert(flush);
	*flush = (struct ferry_flush){.losses_seen = 1};
}

static bool suspect(struct ferry_flush *flush)
{
	bool is_news = !flush->is_suspect;

	flush->losses_count++;
	flush->is_suspect = !FERRY_MUSEUM(FLUSH_FAILURE_FORGOTTEN);
	return is_news;
}

void ferry_flush_inherit(struct ferry_flush *flush)
{
	ferry_assert(flush);
	if (ferry_flush_has_unflushed(flush))
		return;
	flush->writes_done++;
	flush->unflushed_since = UINT64_MAX;
}

bool ferry_flush_wrote(struct ferry_flush *flush, uint64_t sequence, uint64_t oldest)
{
	ferry_assert(flush);
	ferry_assert(sequence > 0 && oldest <= sequence);
	if (!ferry_flush_has_unflushed(flush) || flush->unflushed_since == UINT64_MAX)
		flush->unflushed_since = oldest;
	flush->writes_done++;
	/* It was on its way when the loss was seen: executed before or after, nobody knows. */
	return sequence <= flush->lost_until && suspect(flush);
}

bool ferry_flush_lost(struct ferry_flush *flush, uint64_t newest)
{
	ferry_assert(flush);
	ferry_assert(newest >= flush->lost_until);
	flush->losses_seen++;
	flush->lost_until = newest;
	return ferry_flush_has_unflushed(flush) && suspect(flush);
}

bool ferry_flush_give_up(struct ferry_flush *flush)
{
	ferry_assert(flush);
	return suspect(flush);
}

int ferry_flush_done(struct ferry_flush *flush, uint64_t covers, uint64_t oldest)
{
	ferry_assert(flush);
	ferry_assert(covers <= flush->writes_done);
	if (flush->is_suspect)
		return -EIO;
	if (covers > flush->writes_flushed) {
		flush->writes_flushed = covers;
		flush->unflushed_since = ferry_max_u64(flush->unflushed_since, oldest);
	}
	return 0;
}

void ferry_flush_clear(struct ferry_flush *flush)
{
	ferry_assert(flush);
	flush->is_suspect = false;
}

void ferry_flush_forget(struct ferry_flush *flush)
{
	ferry_assert(flush);
	flush->is_suspect = false;
	flush->writes_flushed = flush->writes_done;
}
