/*
 * list.h - an intrusive doubly linked list; its head and its links are the same struct.
 *
 * Owns:    nothing: whoever embeds a link owns the object.
 * Callers: any rank.
 * Thread:  the owner's.
 * Rooms:   rank 0.
 */
#pragma once

#include "agent/base/base.h"

struct ferry_list {
	struct ferry_list *next;
	struct ferry_list *prev;
};

static inline void ferry_list_init(struct ferry_list *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool ferry_list_is_empty(const struct ferry_list *head)
{
	return head->next == head;
}

/* Whether a link, initialised by ferry_list_init() or _remove(), is in some list. */
static inline bool ferry_list_is_linked(const struct ferry_list *link)
{
	return link->next != link;
}

static inline void ferry_list_append(struct ferry_list *head, struct ferry_list *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void ferry_list_prepend(struct ferry_list *head, struct ferry_list *link)
{
	ferry_list_append(head->next, link);
}

/* Safe on a link that is in no list. */
static inline void ferry_list_remove(struct ferry_list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	ferry_list_init(link);
}

/* Move everything from @from to the end of @to; @from is left empty. */
static inline void ferry_list_move_all(struct ferry_list *to, struct ferry_list *from)
{
	if (ferry_list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	ferry_list_init(from);
}

#define ferry_list_entry(link, type, member) FERRY_CONTAINER_OF(link, type, member)

static inline struct ferry_list *ferry_list_pop(struct ferry_list *head)
{
	struct ferry_list *link = head->next;

	if (link == head)
		return NULL;
	ferry_list_remove(link);
	return link;
}

#define ferry_list_foreach(link, head)                                                             \
	for (struct ferry_list *link = (head)->next; link != (head); link = link->next)

/* The body may remove @link itself, and nothing else. */
#define ferry_list_foreach_safe(link, head)                                                        \
	for (struct ferry_list *link = (head)->next, *link##_next = link->next; link != (head);    \
	     link = link##_next, link##_next = link->next)
