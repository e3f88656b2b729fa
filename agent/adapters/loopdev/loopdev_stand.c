/*
 * loopdev_stand.c - this room from a shell, for tests.
 *   loopdev_stand attach FILE BLOCK_BYTES | find FILE | detach DEVICE FILE
 * Prints the device; or the message, and exits with the errno.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/loopdev/loopdev.h"

int main(int argc, char **argv)
{
	char device[FERRY_LOOPDEV_PATH_MAX] = "";
	struct ferry_error error = {0};
	int r = -EINVAL;

	if (argc == 4 && strcmp(argv[1], "attach") == 0)
		r = ferry_loopdev_attach(argv[2], (uint32_t)strtoul(argv[3], NULL, 10),
					 /* is_read_only= */ false, device, &error);
	else if (argc == 3 && strcmp(argv[1], "find") == 0)
		r = ferry_loopdev_find(argv[2], device, &error);
	else if (argc == 4 && strcmp(argv[1], "detach") == 0)
		r = ferry_loopdev_detach(argv[2], argv[3], &error);
	if (r < 0) {
		(void)fprintf(stderr, "%s\n", error.message);
		return -r;
	}
	if (device[0] != '\0')
		(void)printf("%s\n", device);
	return 0;
}
