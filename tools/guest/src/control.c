/*
 * The guest's end of the control channel: runs shell commands that arrive on a serial port.
 *
 *   host  -> guest   ::run ID LENGTH BASE64     start a command, LENGTH = its bytes after decoding
 *                    ::kill ID                  SIGKILL its process group
 *                    ::hello                    are you there?
 *   guest -> host    ::ready                    yes; also said when the port is opened
 *                    ::out ID BASE64            some of its stdout and stderr
 *                    ::rc ID CODE               it ended; 128 + n after signal n
 *                    ::no ID REASON             it was not started
 *
 * One message a line. A line that does not begin with "::" or does not parse is dropped, so a
 * client may come and go at any byte, even across a restore: whatever half a line its predecessor
 * left behind ends at the next newline, and every client sends one first. LENGTH is there because
 * a truncated command must never run. IDs are the client's business.
 *
 * Commands run side by side, each in a session of its own. A command has ended when its shell has:
 * a process left in the background does not hold the answer back (and must redirect its output).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base64.h"

enum {
  ID_MAX = 64,             /* characters */
  LINE_MAX_BYTES = 131072, /* a longer request is dropped whole */
  CHUNK_BYTES = 1536,      /* of output in one ::out line; a multiple of 3 */
  OUTPUT_MAX = 16777216,   /* bytes; a command that prints more is killed */
  JOBS_MAX = 16,           /* commands at once */
};

struct job {
  pid_t pid; /* 0 = free */
  int pipe;
  size_t printed;
  char id[ID_MAX + 1];
};

static struct job jobs[JOBS_MAX];
static int tty = -1;

/* Writes all of it. A lost client does not block us: QEMU drops what nobody reads. */
static void send_bytes(const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t n = write(tty, bytes, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) exit(1); /* init starts us again */
    bytes += n;
    size -= (size_t)n;
  }
}

static void send_text(const char *kind, const char *id, const char *text) {
  char line[256];
  int n = snprintf(line, sizeof line, "::%s %s %s\n", kind, id, text);
  send_bytes(line, (size_t)n);
}

static void send_output(struct job *job, const uint8_t *bytes, size_t size) {
  char line[ID_MAX + 16 + CHUNK_BYTES / 3 * 4];
  size_t used = (size_t)sprintf(line, "::out %s ", job->id);
  used += base64_encode(bytes, size, line + used);
  line[used++] = '\n';
  send_bytes(line, used);
}

/* The whole session, or, while its child has not made one yet, the child. */
static void kill_job(const struct job *job) {
  if (kill(-job->pid, SIGKILL) < 0) kill(job->pid, SIGKILL);
}

/* Forwards one chunk. Returns 0 when there is nothing (more) to read now. */
static int pump(struct job *job) {
  uint8_t chunk[CHUNK_BYTES];
  ssize_t n = read(job->pipe, chunk, sizeof chunk);
  if (n <= 0) {
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    close(job->pipe);
    job->pipe = -1;
    return 0;
  }
  job->printed += (size_t)n;
  if (job->printed > OUTPUT_MAX) {
    kill_job(job);
    return 0;
  }
  send_output(job, chunk, (size_t)n);
  return 1;
}

static void run_child(const char *command, int output) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(output, 1);
  dup2(output, 2);
  execl("/bin/sh", "sh", "-c", command, (char *)NULL);
  _exit(127);
}

static void start(const char *id, const char *command) {
  struct job *job = NULL;
  for (int i = 0; i < JOBS_MAX && job == NULL; i++)
    if (jobs[i].pid == 0) job = &jobs[i];
  if (job == NULL) return send_text("no", id, "too many commands at once");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return send_text("no", id, strerror(errno));
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  pid_t pid = fork();
  if (pid == 0) run_child(command, ends[1]);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return send_text("no", id, strerror(errno));
  }
  job->pid = pid;
  job->pipe = ends[0];
  job->printed = 0;
  strcpy(job->id, id);
}

/* `line` has no newline; it is the caller's buffer and is decoded in place. */
static void handle_line(char *line, size_t length) {
  line[length] = '\0';
  char id[ID_MAX + 1];
  size_t want;
  int at = 0;
  if (strcmp(line, "::hello") == 0) return send_bytes("::ready\n", 8);
  if (sscanf(line, "::kill %64[^ ]", id) == 1) {
    for (int i = 0; i < JOBS_MAX; i++)
      if (jobs[i].pid != 0 && strcmp(jobs[i].id, id) == 0) kill_job(&jobs[i]);
    return;
  }
  if (sscanf(line, "::run %64[^ ] %zu %n", id, &want, &at) != 2 || at == 0) return;
  long size = base64_decode(line + at, length - (size_t)at, line);
  if (size < 0 || (size_t)size != want || memchr(line, 0, want) != NULL)
    return send_text("no", id, "damaged request");
  line[size] = '\0';
  start(id, line);
}

/* Splits the port's bytes into lines; one that is too long is dropped up to its newline. */
static void read_requests(void) {
  static char line[LINE_MAX_BYTES + 1];
  static size_t used;
  static int skipping;
  char bytes[4096];
  ssize_t n = read(tty, bytes, sizeof bytes);
  if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) exit(1);
  for (ssize_t i = 0; i < n; i++) {
    if (bytes[i] == '\n') {
      if (!skipping) handle_line(line, used);
      used = 0;
      skipping = 0;
    } else if (used == LINE_MAX_BYTES) {
      skipping = 1;
    } else {
      line[used++] = bytes[i];
    }
  }
}

static void reap(int signals) {
  struct signalfd_siginfo info;
  if (read(signals, &info, sizeof info) < 0) return;
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (int i = 0; i < JOBS_MAX; i++) {
      struct job *job = &jobs[i];
      if (job->pid != pid) continue;
      while (job->pipe >= 0 && pump(job)) continue;
      if (job->pipe >= 0) close(job->pipe);
      char code[16];
      int signaled = WIFSIGNALED(status);
      sprintf(code, "%d", signaled ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
      job->pid = 0;
      send_text("rc", job->id, code);
    }
  }
}

static void open_port(const char *path) {
  tty = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  struct termios mode;
  if (tty < 0 || tcgetattr(tty, &mode) < 0) {
    perror(path);
    exit(1);
  }
  cfmakeraw(&mode);
  mode.c_cflag |= CLOCAL;
  cfsetspeed(&mode, B115200);
  tcsetattr(tty, TCSANOW, &mode);
  send_bytes("\n::ready\n", 9);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: control SERIAL-PORT\n");
    return 2;
  }
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  open_port(argv[1]);
  for (;;) {
    struct pollfd polls[2 + JOBS_MAX] = {{tty, POLLIN, 0}, {signals, POLLIN, 0}};
    for (int i = 0; i < JOBS_MAX; i++) {
      polls[2 + i].fd = jobs[i].pid != 0 ? jobs[i].pipe : -1;
      polls[2 + i].events = POLLIN;
    }
    if (poll(polls, 2 + JOBS_MAX, -1) < 0) continue;
    for (int i = 0; i < JOBS_MAX; i++)
      if (polls[2 + i].revents != 0) pump(&jobs[i]);
    if (polls[1].revents != 0) reap(signals);
    if (polls[0].revents != 0) read_requests();
  }
}
