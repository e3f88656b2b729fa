#include <stdarg.h>
#include <stdlib.h>

#include "agent/cli/cli.h"

void cli_clean(char *to, size_t size_bytes, const char *text)
{
	size_t length = 0;

	ferry_assert(size_bytes > 0);
	for (; text[length] != '\0' && length + 1 < size_bytes; length++) {
		unsigned char c = (unsigned char)text[length];

		to[length] = (c < 0x20 || c == 0x7f) ? '?' : text[length];
	}
	/* Not in the middle of a character. */
	if (text[length] != '\0') {
		while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
			length--;
	}
	to[length] = '\0';
}

void cli_table_init(struct cli_table *table, const char *const *titles, size_t titles_count)
{
	ferry_assert(titles_count > 0 && titles_count <= CLI_COLUMNS_MAX);
	*table = (struct cli_table){.columns_count = titles_count};
	for (size_t i = 0; i < titles_count; i++) {
		table->is_right[i] = titles[i][0] == '+';
		table->titles[i] = titles[i] + (table->is_right[i] ? 1 : 0);
	}
}

void cli_table_add(struct cli_table *table, const char *format, ...)
{
	char text[CLI_CELL_BYTES];
	va_list arguments;

	ferry_assert(table->columns_count > 0);
	if (table->cells_count == table->cells_room) {
		table->cells_room = table->cells_room ? table->cells_room * 2 : 64;
		table->cells = reallocarray(table->cells, table->cells_room, CLI_CELL_BYTES);
		ferry_assert(table->cells);
	}
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	cli_clean(table->cells[table->cells_count++], CLI_CELL_BYTES, text);
}

/* In characters, each taken for one column wide. */
static size_t width_of(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void print_cell(const char *text, size_t width, bool is_right, bool is_last)
{
	int pad = (int)(width - width_of(text));

	if (is_right)
		printf("%*s%s", pad, "", text);
	else if (is_last)
		printf("%s", text);
	else
		printf("%s%*s", text, pad, "");
	printf("%s", is_last ? "\n" : "  ");
}

void cli_table_print(struct cli_table *table, const char *nothing)
{
	size_t columns = table->columns_count;
	size_t widths[CLI_COLUMNS_MAX] = {0};

	ferry_assert(table->cells_count % columns == 0);
	if (table->cells_count == 0 && nothing)
		printf("%s\n", nothing);
	for (size_t i = 0; i < columns; i++)
		widths[i] = width_of(table->titles[i]);
	for (size_t i = 0; i < table->cells_count; i++)
		widths[i % columns] = ferry_max_u64(widths[i % columns], width_of(table->cells[i]));
	for (size_t i = 0; table->cells_count > 0 && i < columns; i++)
		print_cell(table->titles[i], widths[i], table->is_right[i], i + 1 == columns);
	for (size_t i = 0; i < table->cells_count; i++)
		print_cell(table->cells[i], widths[i % columns], table->is_right[i % columns],
			   i % columns + 1 == columns);
	free(table->cells);
	*table = (struct cli_table){0};
}
