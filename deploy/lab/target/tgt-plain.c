/*
 * tgt-plain.c - preloaded into tgtd: its luns know no persistent reservations.
 *
 * tgtd reads each iSCSI PDU's basic header segment (48 bytes; RFC 7143, 11.2.1) by itself. In a
 * SCSI Command, PERSISTENT RESERVE IN and OUT become an operation code that no device knows, so
 * that tgtd itself answers INVALID COMMAND OPERATION CODE.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <unistd.h>

enum { HEADER_BYTES = 48, SCSI_COMMAND = 0x01, OPCODE_MASK = 0x3f, CDB = 32, NOBODYS = 0xdf };

ssize_t read(int fd, void *buffer, size_t size)
{
	static __typeof__(&read) next;
	uint8_t *header = buffer;
	ssize_t got;

	if (!next)
		next = (__typeof__(&read))dlsym(RTLD_NEXT, "read");
	got = next(fd, buffer, size);
	if (size == HEADER_BYTES && got == HEADER_BYTES &&
	    (header[0] & OPCODE_MASK) == SCSI_COMMAND &&
	    (header[CDB] == 0x5e || header[CDB] == 0x5f))
		header[CDB] = NOBODYS;
	return got;
}
