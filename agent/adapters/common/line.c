#include "agent/adapters/common/line.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

int ferry_line_read(char *ret, size_t size_bytes, const char *format, ...)
{
	char path[PATH_MAX], line[FERRY_LINE_BYTES_MAX];
	va_list arguments;
	FILE *file;
	int length;
	bool is_read;

	ferry_assert(ret && format);
	ferry_assert(size_bytes > 1 && size_bytes <= sizeof(line));
	va_start(arguments, format);
	length = vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	if (length < 0 || length >= (int)sizeof(path))
		return -ENOENT;
	file = fopen(path, "re");
	if (!file)
		return -ENOENT;
	is_read = fgets(line, (int)size_bytes, file);
	(void)fclose(file); /* It was only read. */
	if (!is_read)
		return -ENOENT;
	line[strcspn(line, "\n")] = '\0';
	if (!line[0])
		return -ENOENT;
	(void)snprintf(ret, size_bytes, "%s", line);
	return 0;
}
