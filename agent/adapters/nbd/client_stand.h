/*
 * client_stand.h - an NBD client for tests, that says what it is told to, true or not.
 *
 * Owns:    nothing: a connection is a descriptor, the test's.
 * Callers: the tests of this room.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include "agent/adapters/nbd/nbd_stand.h"
#include "agent/adapters/nbd/protocol.h"

int client_connect(struct fixture *fixture);
void say(int fd, const void *bytes, size_t length_bytes);
void hear(int fd, void *bytes, size_t length_bytes);

/* The server has hung up, and said nothing more before. */
void hear_end(int fd);

struct ferry_nbd_writer writer_of(uint8_t *bytes, uint32_t size_bytes);
int client_greet_as(struct fixture *fixture, uint32_t flags);
int client_greet(struct fixture *fixture);
void option_say(int fd, uint32_t option, const void *data, uint32_t length_bytes);

/* One answer: its type; its data in @ret. */
uint32_t option_hear(int fd, uint32_t option, uint8_t ret[4096], uint32_t *ret_bytes);

void option_expect(int fd, uint32_t option, const void *data, uint32_t length_bytes, uint32_t type);

/* The data of INFO and GO: name, and wishes for NAME and DESCRIPTION. */
uint32_t info_data(uint8_t ret[64], const char *name);

/* INFO or GO, all answers to the last; a bit for each kind of information. */
uint32_t info_ask(int fd, uint32_t option, const char *name);

int client_go(struct fixture *fixture, const char *name, bool has_structured);
void request_encode(uint8_t ret[FERRY_NBD_REQUEST_BYTES], uint16_t command, uint16_t flags,
		    uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes);
void request_say(int fd, uint16_t command, uint16_t flags, uint64_t cookie, uint64_t offset_bytes,
		 uint32_t length_bytes);
uint32_t reply_hear(int fd, uint64_t *ret_cookie);
void reply_expect(int fd, uint64_t cookie, uint32_t error);

/* One request without data, and its reply. */
void expect(int fd, uint16_t command, uint16_t flags, uint64_t offset_bytes, uint32_t length_bytes,
	    uint32_t error);

void write_expect(int fd, uint16_t flags, uint64_t offset_bytes, uint32_t length_bytes,
		  uint8_t byte, uint32_t error);
void read_hear(int fd, uint32_t length_bytes, uint8_t byte);
void read_expect(int fd, uint64_t offset_bytes, uint32_t length_bytes, uint8_t byte);
