#include "agent/adapters/uring/conclude.h"

#define FAILED(why) ((struct ferry_conclusion){FERRY_OUTCOME_FAILED, (why), false})
#define UNKNOWN(why) ((struct ferry_conclusion){FERRY_OUTCOME_UNKNOWN, (why), false})

/*
 * A filesystem of this node: its error is the end of the matter, nothing is under way any more.
 * An ESTALE would be a network filesystem's, where something may be.
 */
static struct ferry_conclusion conclude_file(int error)
{
	switch (error) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return FAILED(FERRY_CAUSE_NO_SPACE);
	case -EINVAL:
	case -EOPNOTSUPP:
		return FAILED(FERRY_CAUSE_INVALID);
	case -ENOMEM:
	case -EAGAIN:
	case -EINTR:
		return FAILED(FERRY_CAUSE_PATH);
	case -ESTALE:
	case -ENOLINK:
	case -ETIMEDOUT:
	case -ENOTCONN:
	case -ECANCELED:
		return UNKNOWN(FERRY_CAUSE_PATH);
	default:
		return FAILED(FERRY_CAUSE_MEDIUM);
	}
}

/*
 * The block layer folds a command's end into blk_status_t, and that into an errno:
 * blk_errors[] in block/blk-core.c; what each means is in include/linux/blk_types.h. For SCSI the
 * status comes from scsi_result_to_blk_status() and scsi_check_sense() in drivers/scsi.
 *
 *   NOTSUPP     EOPNOTSUPP  the device or its driver refuses such a command
 *   MEDIUM      ENODATA     sense MEDIUM ERROR                     the device's own status
 *   NOSPC       ENOSPC      sense DATA PROTECT 27/07, a full pool  the device's own status
 *   TARGET      EREMOTEIO   sense HARDWARE ERROR, ILLEGAL REQUEST… the device's own status
 *   RESV_CONFLICT (NEXUS before 6.5)  EBADE  status RESERVATION CONFLICT    the device's own
 *   IOERR EIO, TIMEOUT ETIMEDOUT, TRANSPORT ENOLINK, OFFLINE ENODEV, and whatever else:
 *               how it ended, nobody knows; also EIO is what drivers say for want of a better word
 *
 * EPERM is no blk_status_t: blkdev_write_iter() says it before anything is sent, when the device
 * became read-only.
 */
static struct ferry_conclusion conclude_block_device(int error)
{
	switch (error) {
	case -EOPNOTSUPP:
	case -EINVAL:
		return FAILED(FERRY_CAUSE_INVALID);
	case -ENODATA:
	case -EREMOTEIO:
		return FAILED(FERRY_CAUSE_MEDIUM);
	case -ENOSPC:
		return FAILED(FERRY_CAUSE_NO_SPACE);
	case -EBADE:
		return FAILED(FERRY_CAUSE_CONFLICT);
	case -EPERM:
	case -EROFS:
		return FAILED(FERRY_CAUSE_UNSENT);
	case -ENODEV:
	case -ENXIO:
	case -ESHUTDOWN:
		return (struct ferry_conclusion){FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH, true};
	case -ETIMEDOUT:
		return UNKNOWN(FERRY_CAUSE_TIMEOUT);
	default:
		return UNKNOWN(FERRY_CAUSE_PATH);
	}
}

struct ferry_conclusion ferry_conclude(bool is_block_device, enum ferry_op op, bool is_whole,
				       int error)
{
	struct ferry_conclusion conclusion;

	ferry_assert(error < 0);
	ferry_assert(op >= FERRY_OP_READ && op <= FERRY_OP_WRITE_ZEROES);
	if (!is_block_device)
		return conclude_file(error);
	conclusion = conclude_block_device(error);
	/*
	 * Of several commands for one write the block layer reports the first error only: behind
	 * one that is proven another may hide that is not. What was never sent is no such case.
	 */
	if (!is_whole && ferry_op_changes_blocks(op) &&
	    conclusion.outcome == FERRY_OUTCOME_FAILED && conclusion.cause != FERRY_CAUSE_UNSENT)
		return UNKNOWN(FERRY_CAUSE_PATH);
	return conclusion;
}

/*
 * The kernel tells once that it could not write back, and forgets both the error and the data
 * (fsync(2); lib/errseq.c): the next fsync is fine. Loop devices and the like hand that through. So
 * the one error is all that there will ever be to know of the writes that are lost. A plain disk
 * keeps its cache in the device: if only the way there was gone, any way can flush it.
 */
struct ferry_conclusion ferry_conclude_sync(bool is_block_device, bool is_cached, enum ferry_op op,
					    bool is_whole, int error)
{
	struct ferry_conclusion conclusion = ferry_conclude(is_block_device, op, is_whole, error);

	ferry_assert(is_cached || is_block_device);
	switch (error) {
	case -EINTR: /* Nothing was begun. */
	case -EAGAIN:
	case -ENOMEM:
	case -EPERM:
	case -EROFS:
	case -EBADE:
		return conclusion;
	case -ENOLINK:
	case -ETIMEDOUT:
	case -ENODEV:
	case -ENXIO:
	case -ESHUTDOWN:
		if (!is_cached)
			return conclusion;
		break;
	default:
		break;
	}
	if (conclusion.outcome == FERRY_OUTCOME_UNKNOWN || conclusion.cause == FERRY_CAUSE_MEDIUM)
		conclusion.cause = FERRY_CAUSE_LOST;
	return conclusion;
}

/* A write has ended before it is flushed: nothing of it is under way any more, whatever came of
 * that. */
struct ferry_conclusion ferry_conclude_flush(enum ferry_op op, enum ferry_outcome outcome,
					     enum ferry_cause cause)
{
	ferry_assert((outcome == FERRY_OUTCOME_DONE) == (cause == FERRY_CAUSE_NONE));
	if (outcome == FERRY_OUTCOME_UNKNOWN && ferry_op_changes_blocks(op))
		return FAILED(FERRY_CAUSE_PATH);
	return (struct ferry_conclusion){outcome, cause, false};
}
