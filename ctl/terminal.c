/* terminal.c - errors and questions on stderr. */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

void ctl_error(const char *format, ...)
{
	va_list args;
	char *text = NULL, *printable;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	printable = rt_text_shown(text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
	fflush(stdout);
	fprintf(stderr, "tandemctl: %s\n", printable);
	free(printable);
	free(text);
}

const char *ctl_hint(const struct ctl *ctl, const char *hint)
{
	return ctl->json ? "" : hint;
}

int ctl_agree(bool yes, const char *format, ...)
{
	char answer[16] = "", *text = NULL;
	va_list args;
	int code = CTL_NEGATIVE;

	if (yes)
		return CTL_OK;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (!isatty(STDIN_FILENO)) {
		ctl_error("%s? There is no terminal to ask, so nothing was changed: use --yes",
			  text == NULL ? "" : text);
		code = CTL_USAGE;
	} else {
		char *shown =
			rt_text_shown(text == NULL ? "" : text, text == NULL ? 0 : strlen(text));

		fflush(stdout);
		fprintf(stderr, "%s? [y/N] ", shown);
		free(shown);
		if (fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] | 0x20) == 'y')
			code = CTL_OK;
		else
			ctl_error("nothing was changed");
	}
	free(text);
	return code;
}
