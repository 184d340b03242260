/*
 * A program that looks like QEMU to qemu-reconciler and runs no machine: see
 * ../doc.go. It has one thread, makes no allocation, and sleeps in poll(2)
 * until it is spoken to or told to end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SETS 8

static int sets[SETS];      /* the descriptor of each fdset */
static int listener = -1;   /* where QMP clients come from */
static int client = -1;     /* the one that is here */
static int monitor_log = -1;
static int running = 1;

/* number is what follows key in an option's text, or -1. */
static int number(const char *text, const char *key) {
	const char *at = strstr(text, key);
	return at ? atoi(at + strlen(key)) : -1;
}

static int begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* put writes everything. What cannot be written is lost, as with QEMU. */
static void put(int fd, const char *text, size_t size) {
	while (fd >= 0 && size > 0) {
		ssize_t n = write(fd, text, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		size -= (size_t)n;
	}
}

/* say sends one line to the client and to the log, whether or not there is a
 * client: that is what QEMU's logfile= does. */
static void say(const char *format, ...) {
	char line[1024];
	va_list values;
	va_start(values, format);
	int n = vsnprintf(line, sizeof line - 2, format, values);
	va_end(values);
	if (n < 0 || n > (int)sizeof line - 3)
		return;
	line[n] = '\r';
	line[n + 1] = '\n';
	put(client, line, (size_t)n + 2);
	put(monitor_log, line, (size_t)n + 2);
}

static void event(const char *name, const char *data) {
	struct timeval now;
	gettimeofday(&now, NULL);
	say("{\"timestamp\": {\"seconds\": %ld, \"microseconds\": %ld}, \"event\": \"%s\"%s%s}",
		(long)now.tv_sec, (long)now.tv_usec, name, *data ? ", \"data\": " : "", data);
}

static void end(const char *guest, const char *reason) {
	char data[96];
	snprintf(data, sizeof data, "{\"guest\": %s, \"reason\": \"%s\"}", guest, reason);
	event("SHUTDOWN", data);
	exit(0);
}

#define VERSION "{\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": \"stand-in\"}"

static void greet(void) { say("{\"QMP\": {\"version\": " VERSION ", \"capabilities\": [\"oob\"]}}"); }

/* What a command returns. A probe of the emulator gets the least that an
 * emulator can say. */
static const struct { const char *command, *answer; } answers[] = {
	{"query-version", VERSION},
	{"qom-list-types", "[{\"name\": \"tcg-accel\", \"parent\": \"accel\"}]"},
	{"query-machines", "[{\"name\": \"pc-i440fx-7.2\", \"alias\": \"pc\"}, {\"name\": \"pc-q35-7.2\", \"alias\": \"q35\"}, {\"name\": \"microvm\"}]"},
	{"query-command-line-options", "[{\"option\": \"sandbox\", \"parameters\": []}]"},
	{"qmp_capabilities", "{}"}, {"set-action", "{}"}, {"system_wakeup", "{}"},
	{"system_powerdown", "{}"}, {"quit", "{}"}, {"stop", "{}"}, {"cont", "{}"}, {"system_reset", "{}"},
};

/* field copies the text of a member of one line of JSON, with its quotes if it
 * has any. The program's own encoder writes no blanks and escapes no letters
 * in what is looked for here. */
static void field(const char *line, const char *key, char *out, size_t size) {
	const char *at = strstr(line, key);
	*out = 0;
	if (!at)
		return;
	at += strlen(key);
	size_t n = *at == '"' ? strcspn(at + 1, "\"") + 2 : strcspn(at, ",}");
	if (n < size) {
		memcpy(out, at, n);
		out[n] = 0;
	}
}

static int is(const char *quoted, const char *word) {
	size_t n = strlen(word);
	return strlen(quoted) == n + 2 && memcmp(quoted + 1, word, n) == 0;
}

static void obey(const char *line) {
	char command[64], id[128];
	const char *answer = NULL;
	field(line, "\"execute\":", command, sizeof command);
	field(line, "\"id\":", id, sizeof id);
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
		if (is(command, answers[i].command))
			answer = answers[i].answer;
	if (is(command, "query-status"))
		answer = running ? "{\"status\": \"running\", \"singlestep\": false, \"running\": true}"
			: "{\"status\": \"paused\", \"singlestep\": false, \"running\": false}";
	if (!answer) {
		say("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command has not been found\"}%s%s}", *id ? ", \"id\": " : "", id);
		return;
	}
	say("{\"return\": %s%s%s}", answer, *id ? ", \"id\": " : "", id);
	if (is(command, "system_powerdown")) {
		event("POWERDOWN", "");
		end("true", "guest-shutdown");
	} else if (is(command, "quit")) {
		end("false", "host-qmp-quit");
	} else if (is(command, "system_reset")) {
		event("RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
	} else if (is(command, "stop") && running) {
		running = 0;
		event("STOP", "");
	} else if (is(command, "cont") && !running) {
		running = 1;
		event("RESUME", "");
	}
}

/* hear reads what the client sent and obeys line by line. */
static void hear(void) {
	static char buffer[4096];
	static size_t held;
	ssize_t n = read(client, buffer + held, sizeof buffer - 1 - held);
	if (n <= 0) {
		close(client);
		client = -1;
		held = 0;
		if (listener < 0) /* nobody can come any more: it was a probe */
			exit(0);
		return;
	}
	held += (size_t)n;
	buffer[held] = 0;
	char *line = buffer, *stop;
	while ((stop = strchr(line, '\n'))) {
		*stop = 0;
		obey(line);
		line = stop + 1;
	}
	held -= (size_t)(line - buffer);
	memmove(buffer, line, held);
	if (held == sizeof buffer - 1) /* no command is that long */
		held = 0;
}

/* plug connects one -chardev: the monitor, or the console, on which the guest
 * that there is not says that it is ready. */
static void plug(const char *option) {
	int fd = number(option, "fd="), set = number(option, "/dev/fdset/");
	int log = set > 0 && set < SETS ? sets[set] : -1;
	if (strstr(option, "id=qmp,")) {
		listener = fd;
		monitor_log = log;
	} else if (strstr(option, "id=probe,")) {
		client = fd;
	} else if (strstr(option, "id=console0,")) {
		put(log, "READY\r\n", 7);
	}
}

int main(int argc, char **argv) {
	sigset_t ends;
	struct signalfd_siginfo got;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	int signals = signalfd(-1, &ends, SFD_CLOEXEC);
	for (int i = 0; i < SETS; i++)
		sets[i] = -1;
	for (int i = 1; i + 1 < argc; i++) {
		int set = number(argv[i + 1], "set=");
		if (strcmp(argv[i], "-add-fd") == 0 && begins(argv[i + 1], "fd=") && set > 0 && set < SETS)
			sets[set] = number(argv[i + 1], "fd=");
	}
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "-chardev") == 0)
			plug(argv[i + 1]);
	if (listener < 0 && client < 0) {
		fprintf(stderr, "%s: no monitor on the command line\n", argv[0]);
		return 1;
	}
	if (client >= 0)
		greet();
	for (;;) {
		/* One client at a time: the next waits until this one has left. */
		struct pollfd fds[2] = {{signals, POLLIN, 0}, {client >= 0 ? client : listener, POLLIN, 0}};
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents && read(signals, &got, sizeof got) > 0)
			end("false", "host-signal");
		if (!fds[1].revents)
			continue;
		if (client >= 0) {
			hear();
		} else if ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			greet();
		}
	}
}
