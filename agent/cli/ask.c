/* ask.c - questions to people, before what cannot be taken back. */
#include <stdlib.h>
#include <unistd.h>

#include "agent/cli/cli.h"

int cli_ask(const struct cli_options *options, const char *question, const char *word,
	    struct ferry_error *reterr)
{
	char *line = NULL;
	size_t room = 0;
	bool is_meant = false;
	ssize_t length;

	ferry_assert(question && word && word[0]);
	if (options->is_yes)
		return 0;
	/* Not from a pipe: what was written before the question was known answers nothing. */
	if (!isatty(STDIN_FILENO)) {
		fprintf(stderr, "%s\n", question);
		return ferry_error_set(reterr, -EPERM,
				       "nothing was done: there is no terminal to answer this at "
				       "(--yes answers it)");
	}
	fprintf(stderr, "%s ", question);
	length = getline(&line, &room, stdin);
	if (length > 0 && line[length - 1] == '\n')
		line[length - 1] = '\0';
	if (length > 0)
		is_meant = strcmp(line, word) == 0;
	free(line);
	if (!is_meant)
		return ferry_error_set(reterr, -EPERM, "nothing was done");
	return 0;
}
