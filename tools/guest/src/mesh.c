/*
 * Every node sends numbered messages to every other node, over TCP and over UDP, and keeps count.
 *
 *   mesh --node 0 --nodes 3 [--rate 200] [--port 7000] [--first 10.0.0.1] [--page /run/mesh]
 *   mesh show [PAGE]     prints the counts as they are now, a line for each peer
 *
 * --rate is messages a second to each peer, by each protocol; --first is the address of node 0, the
 * others follow. Waits until all peers listen, then sends until a signal comes.
 *
 *   message, 16 bytes:   magic u32 | sender u32 | number u64            little endian
 *
 * The counts are one page of memory, in a file of /run, which is memory too:
 *
 *   page, 4096 bytes:    magic 16 B | node u64 | nodes u64
 *                        then for each node:  sent by TCP u64 | sent by UDP u64
 *                                             received by TCP u64 | received by UDP u64
 *
 * Each is the highest number sent to that node, or received from it. A number counts as sent before
 * the kernel is handed it, and as received after the kernel has handed it over: whenever all machines
 * are looked at in one consistent instant, none has received what its sender has not sent. Each count
 * is a word of its own, stored at once, so there is no instant at which the page would be torn. It is
 * found in an image of the machine's memory by its magic, which nothing else has at a page's start:
 * in the program's text it is in two halves.
 *
 * What TCP promises is checked: a number that is not its predecessor's successor, or a connection that
 * breaks, ends the program with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NODES_MAX = 64, TCP = 0, UDP = 1, PROTOCOLS = 2 };
enum { PAGE_BYTES = 4096, TICK_NS = 5000000, RETRY_NS = 50000000 };

static const char MAGIC_HEAD[] = "um_mesh ", MAGIC_TAIL[] = "counters";
static const uint32_t MESSAGE_MAGIC = 0x6873656d; /* "mesh", little endian */
static const int64_t SECOND_NS = 1000000000;

struct message {
  uint32_t magic, sender;
  uint64_t number;
};

struct page {
  char magic[16];
  uint64_t node, nodes;
  struct {
    volatile uint64_t sent[PROTOCOLS], received[PROTOCOLS];
  } peers[NODES_MAX];
};
_Static_assert(sizeof(struct page) <= PAGE_BYTES, "the counters are one page");

/* A connection of a peer to us: what has come of the message that is coming. */
struct incoming {
  int socket;
  size_t filled;
  struct message message;
};

/* Our connection to a peer: what is left of the message that is going. */
struct outgoing {
  int socket;
  size_t left;
  struct message message;
};

static struct page *page;
static uint32_t node, nodes, first = 0x0a000001;
static struct outgoing to[NODES_MAX];
static struct incoming from[NODES_MAX];
static int accepted;

static _Noreturn void die(const char *what) {
  fprintf(stderr, "mesh: %s: %s\n", what, strerror(errno));
  exit(1);
}

static _Noreturn void broken(const char *what, uint32_t peer, uint64_t number) {
  fprintf(stderr, "mesh: n%u: %s, at number %llu\n", peer, what, (unsigned long long)number);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static struct sockaddr_in address(uint32_t of, uint16_t port) {
  struct sockaddr_in it = {.sin_family = AF_INET, .sin_port = htons(port)};
  it.sin_addr.s_addr = htonl(first + of);
  return it;
}

/* An existing file is used again: its old page, freed, would be found as well. */
static void map_page(const char *path) {
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, PAGE_BYTES) < 0) die(path);
  page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) die("mmap");
  close(file);
  memset(page, 0, PAGE_BYTES);
  page->node = node;
  page->nodes = nodes;
  memcpy(page->magic, MAGIC_HEAD, 8);
  memcpy(page->magic + 8, MAGIC_TAIL, 8);
}

static int bound(int type, uint16_t port) {
  struct sockaddr_in here = address(node, port);
  int one = 1, s = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(s, (struct sockaddr *)&here, sizeof here) < 0) die("bind");
  return s;
}

static int dial(uint32_t peer, uint16_t port) {
  struct sockaddr_in there = address(peer, port);
  for (;;) {
    int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(s, (struct sockaddr *)&there, sizeof there) == 0) {
      setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      return s;
    }
    close(s);
    nanosleep(&(struct timespec){0, RETRY_NS}, NULL); /* it has not come up yet */
  }
}

/* The next message to a peer. From here on it counts as sent. */
static struct message next_message(uint32_t peer, int protocol) {
  uint64_t number = page->peers[peer].sent[protocol] + 1;
  page->peers[peer].sent[protocol] = number;
  return (struct message){MESSAGE_MAGIC, node, number};
}

static int would_block(void) {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Hands over what is left. Returns 0 when the socket takes no more. */
static int push(uint32_t peer) {
  struct outgoing *out = &to[peer];
  if (out->left == 0) return 1;
  const char *rest = (const char *)(&out->message + 1) - out->left;
  ssize_t n = send(out->socket, rest, out->left, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && !would_block()) broken(strerror(errno), peer, out->message.number);
  if (n > 0) out->left -= (size_t)n;
  return out->left == 0;
}

static void send_tcp(uint32_t peer) {
  if (!push(peer)) return;
  to[peer].message = next_message(peer, TCP);
  to[peer].left = sizeof to[peer].message;
  push(peer);
}

/* UDP promises nothing: what the kernel does not take is lost. */
static void send_udp(int s, uint32_t peer, uint16_t port) {
  struct sockaddr_in there = address(peer, port);
  struct message message = next_message(peer, UDP);
  sendto(s, &message, sizeof message, MSG_DONTWAIT, (struct sockaddr *)&there, sizeof there);
}

static int is_ours(const struct message *message) {
  return message->magic == MESSAGE_MAGIC && message->sender < nodes && message->sender != node;
}

static void take_tcp(const struct message *message) {
  if (!is_ours(message)) broken("no message", message->sender, message->number);
  volatile uint64_t *received = &page->peers[message->sender].received[TCP];
  if (message->number != *received + 1) broken("out of order", message->sender, message->number);
  *received = message->number;
}

static void pull(struct incoming *in) {
  for (;;) {
    char *rest = (char *)&in->message + in->filled;
    ssize_t n = recv(in->socket, rest, sizeof in->message - in->filled, MSG_DONTWAIT);
    if (n < 0 && would_block()) return;
    if (n <= 0) broken("its connection ended", in->message.sender, in->message.number);
    in->filled += (size_t)n;
    if (in->filled < sizeof in->message) continue;
    take_tcp(&in->message);
    in->filled = 0;
  }
}

static void pull_udp(int s) {
  struct message message;
  ssize_t n;
  while ((n = recv(s, &message, sizeof message, MSG_DONTWAIT)) >= 0) {
    if (n != sizeof message || !is_ours(&message)) continue;
    volatile uint64_t *received = &page->peers[message.sender].received[UDP];
    if (message.number > *received) *received = message.number;
  }
}

static void greet(int listener) {
  int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (s < 0) return;
  if (accepted == (int)nodes - 1) {
    close(s);
    return;
  }
  from[accepted++].socket = s;
}

/* Takes what comes, until it is time to send. */
static void receive_until(int64_t when, int listener, int udp) {
  for (int64_t left; (left = when - now_ns()) > 0;) {
    struct pollfd waiting[NODES_MAX + 1] = {{listener, POLLIN, 0}, {udp, POLLIN, 0}};
    for (int i = 0; i < accepted; i++) waiting[2 + i] = (struct pollfd){from[i].socket, POLLIN, 0};
    int sockets = accepted;
    struct timespec timeout = {0, left};
    if (ppoll(waiting, (nfds_t)(2 + sockets), &timeout, NULL) <= 0) continue;
    if (waiting[0].revents) greet(listener);
    if (waiting[1].revents) pull_udp(udp);
    for (int i = 0; i < sockets; i++)
      if (waiting[2 + i].revents) pull(&from[i]);
  }
}

/* Reads through a mapping: a copy of the page would be found as well. */
static int show(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  struct page *it = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, file, 0);
  if (file < 0 || it == MAP_FAILED) die(path);
  for (uint64_t peer = 0; peer < it->nodes && peer < NODES_MAX; peer++) {
    if (peer == it->node) continue;
    for (int protocol = 0; protocol < PROTOCOLS; protocol++)
      printf("n%llu %s sent %llu received %llu\n", (unsigned long long)peer,
             protocol == TCP ? "tcp" : "udp",
             (unsigned long long)it->peers[peer].sent[protocol],
             (unsigned long long)it->peers[peer].received[protocol]);
  }
  return 0;
}

static uint32_t address_of(const char *text) {
  struct in_addr it;
  if (inet_pton(AF_INET, text, &it) == 1) return ntohl(it.s_addr);
  fprintf(stderr, "mesh: not an address: %s\n", text);
  exit(2);
}

static long number(const char *text, long min, long max) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*text != 0 && *end == 0 && value >= min && value <= max) return value;
  fprintf(stderr, "mesh: not a number from %ld to %ld: %s\n", min, max, text);
  exit(2);
}

int main(int argc, char **argv) {
  static const struct option OPTIONS[] = {{"node", 1, NULL, 'n'}, {"nodes", 1, NULL, 'm'},
                                          {"rate", 1, NULL, 'r'}, {"port", 1, NULL, 'p'},
                                          {"page", 1, NULL, 'f'}, {"first", 1, NULL, 'a'},
                                          {NULL, 0, NULL, 0}};
  const char *path = "/run/mesh";
  if (argc > 1 && strcmp(argv[1], "show") == 0) return show(argc > 2 ? argv[2] : path);
  long rate = 200;
  uint16_t port = 7000;
  int option;
  while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
    if (option == 'n') node = (uint32_t)number(optarg, 0, NODES_MAX - 1);
    else if (option == 'm') nodes = (uint32_t)number(optarg, 2, NODES_MAX);
    else if (option == 'r') rate = number(optarg, 1, 1000000);
    else if (option == 'p') port = (uint16_t)number(optarg, 1, 65535);
    else if (option == 'f') path = optarg;
    else if (option == 'a') first = address_of(optarg);
    else return 2;
  }
  if (node >= nodes) {
    fprintf(stderr, "mesh: --node 0 to --nodes - 1\n");
    return 2;
  }
  int listener = bound(SOCK_STREAM, port), udp = bound(SOCK_DGRAM, port);
  if (listen(listener, NODES_MAX) < 0) die("listen");
  map_page(path);
  for (uint32_t peer = 0; peer < nodes; peer++)
    if (peer != node) to[peer].socket = dial(peer, port);

  /* As many as are due, at most those of a tick: a machine that stood has nothing to make good. */
  int64_t begin = now_ns();
  for (int64_t sent = 0;;) {
    int64_t elapsed = now_ns() - begin, due = elapsed / SECOND_NS * rate;
    due += elapsed % SECOND_NS * rate / SECOND_NS;
    int64_t most = rate * TICK_NS / SECOND_NS + 1;
    int64_t count = due - sent < most ? due - sent : most;
    for (; count > 0; count--)
      for (uint32_t peer = 0; peer < nodes; peer++) {
        if (peer == node) continue;
        send_tcp(peer);
        send_udp(udp, peer, port);
      }
    sent = due;
    receive_until(now_ns() + TICK_NS, listener, udp);
  }
}
