/*
 * Proof that a machine was continued and not rebooted, and that its clocks did not jump.
 *
 *   ticker serve    draws a nonce, then ticks every 20 ms for ever
 *   ticker show     prints the running ticker's state, one line of key=value
 *   ticker reset    the same, and starts the maxima and the backward steps anew
 *
 * The nonce comes from /dev/urandom into plain memory and is never written to a file: only a
 * machine whose memory came through whole can still tell it. Gaps are differences of readings
 * of neighbouring ticks, in microseconds; 20,000 is what an idle machine shows.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const struct sockaddr_un ADDRESS = {.sun_family = AF_UNIX, .sun_path = "/run/ticker.sock"};
static const int64_t TICK_NS = 20 * 1000 * 1000;
static const int64_t PATIENCE_NS = 5ll * 1000 * 1000 * 1000; /* with a client that is silent */

static uint8_t nonce[16];
static uint64_t ticks;
static int64_t monotonic_gap_max, realtime_gap_max, monotonic_last, realtime_last;
static uint64_t monotonic_steps_back, realtime_steps_back;

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void observe(int64_t now, int64_t *last, int64_t *gap_max, uint64_t *steps_back) {
  int64_t gap = now - *last;
  if (gap > *gap_max) *gap_max = gap;
  if (gap < 0) ++*steps_back;
  *last = now;
}

static void tick(void) {
  ticks++;
  observe(now_ns(CLOCK_MONOTONIC), &monotonic_last, &monotonic_gap_max, &monotonic_steps_back);
  observe(now_ns(CLOCK_REALTIME), &realtime_last, &realtime_gap_max, &realtime_steps_back);
}

static void forget_maxima(void) {
  monotonic_gap_max = realtime_gap_max = 0;
  monotonic_steps_back = realtime_steps_back = 0;
}

static void answer(int client) {
  char request[8] = "";
  char hex[33];
  char line[512];
  if (read(client, request, sizeof request - 1) <= 0) return;
  for (int i = 0; i < 16; i++) sprintf(hex + 2 * i, "%02x", nonce[i]);
  int n = snprintf(line, sizeof line,
                   "nonce=%s ticks=%llu monotonic_us=%lld realtime_us=%lld "
                   "monotonic_gap_max_us=%lld realtime_gap_max_us=%lld "
                   "monotonic_steps_back=%llu realtime_steps_back=%llu\n",
                   hex, (unsigned long long)ticks, (long long)monotonic_last / 1000,
                   (long long)realtime_last / 1000, (long long)monotonic_gap_max / 1000,
                   (long long)realtime_gap_max / 1000, (unsigned long long)monotonic_steps_back,
                   (unsigned long long)realtime_steps_back);
  if (send(client, line, (size_t)n, MSG_NOSIGNAL) < 0) return;
  if (strcmp(request, "reset") == 0) forget_maxima();
}

static int64_t until(int64_t when) {
  int64_t left = when - now_ns(CLOCK_MONOTONIC);
  return left > 0 ? left : 0;
}

static int listen_for_clients(void) {
  int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  unlink(ADDRESS.sun_path);
  if (bind(server, (const struct sockaddr *)&ADDRESS, sizeof ADDRESS) < 0) die("bind");
  if (listen(server, 8) < 0) die("listen");
  return server;
}

/*
 * One client at a time, and none is ever waited for: on a loaded host an emulated guest may take
 * seconds from connect() to write(), and a late tick would look like a clock that jumped.
 */
static _Noreturn void serve(void) {
  int urandom = open("/dev/urandom", O_RDONLY);
  if (urandom < 0 || read(urandom, nonce, sizeof nonce) != sizeof nonce) die("/dev/urandom");
  close(urandom);
  int server = listen_for_clients(), client = -1;
  monotonic_last = now_ns(CLOCK_MONOTONIC);
  realtime_last = now_ns(CLOCK_REALTIME);
  int64_t next = monotonic_last + TICK_NS, give_up = 0;
  for (;;) {
    struct timespec timeout = {0, until(next)};
    struct pollfd waiting = {client < 0 ? server : client, POLLIN, 0};
    int ready = ppoll(&waiting, 1, &timeout, NULL) > 0;
    if (until(next) == 0) {
      tick();
      next = monotonic_last + TICK_NS;
    }
    if (ready && client < 0) {
      client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
      give_up = now_ns(CLOCK_MONOTONIC) + PATIENCE_NS;
    } else if (client >= 0 && (ready || until(give_up) == 0)) {
      if (ready) answer(client);
      close(client);
      client = -1;
    }
  }
}

static int ask(const char *what) {
  int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(client, (const struct sockaddr *)&ADDRESS, sizeof ADDRESS) < 0) die("ticker");
  if (write(client, what, strlen(what)) < 0) die("ticker");
  char line[512];
  ssize_t n;
  int answered = 0;
  while ((n = read(client, line, sizeof line)) > 0) {
    fwrite(line, 1, (size_t)n, stdout);
    answered = 1;
  }
  return answered ? 0 : 1;
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "serve") == 0) serve();
  if (argc == 2 && (strcmp(argv[1], "show") == 0 || strcmp(argv[1], "reset") == 0))
    return ask(argv[1]);
  fprintf(stderr, "usage: ticker serve|show|reset\n");
  return 2;
}
