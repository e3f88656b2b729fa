#include "agent/mail.h"

#include <time.h>

size_t ferry_mailbox_memory_bytes(void)
{
	return (size_t)2 * FERRY_MAIL_RING_SLOTS * sizeof(struct ferry_mail) + 256;
}

int ferry_mailbox_init(struct ferry_mailbox *mailbox, struct ferry_region *region)
{
	int r;

	ferry_assert(mailbox && region);
	r = ferry_spsc_init(&mailbox->to_data, region, FERRY_MAIL_RING_SLOTS,
			    sizeof(struct ferry_mail));
	if (r < 0)
		return r;
	return ferry_spsc_init(&mailbox->to_cluster, region, FERRY_MAIL_RING_SLOTS,
			       sizeof(struct ferry_mail));
}

void ferry_mail_to_data(struct ferry_mailbox *mailbox, const struct ferry_mail *mail)
{
	static const struct timespec moment = {.tv_nsec = 100 * 1000};

	ferry_assert(mail->kind >= FERRY_MAIL_VIEW && mail->kind <= FERRY_MAIL_STOP);
	while (ferry_spsc_push(&mailbox->to_data, mail) < 0) {
		mailbox->wake_data(mailbox->data_context);
		(void)nanosleep(&moment, NULL); /* Interrupted is as good. */
	}
	mailbox->wake_data(mailbox->data_context);
}

int ferry_mail_to_cluster(struct ferry_mailbox *mailbox, const struct ferry_mail *mail)
{
	int r;

	ferry_assert(mail->kind >= FERRY_MAIL_OPENED && mail->kind <= FERRY_MAIL_STOPPED);
	r = ferry_spsc_push(&mailbox->to_cluster, mail);
	mailbox->wake_cluster(mailbox->cluster_context);
	return r;
}
