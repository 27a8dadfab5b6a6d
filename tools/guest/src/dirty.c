/*
 * Dirties memory at a chosen rate and can tell whether every page is the one it wrote last.
 *
 *   dirty [--size-mib 64] [--rate-mib 0] [--pattern sequential|random|burst] [--seconds 0]
 *
 * --rate-mib is MiB a second, 0 = as fast as possible; --seconds 0 = until a signal. "burst" writes
 * for a quarter of each second, at four times the rate, and rests for the remainder.
 *
 *   page:  magic | page index | generation | checksum | filler derived from (index, generation)
 *
 * The newest generation of each page is also kept in a table, which lies in other pages: a page
 * from another moment than the table's (a torn checkpoint) is as visible as a damaged one.
 * SIGUSR1 verifies and goes on; SIGTERM, SIGINT and the end of --seconds verify and exit, with 1
 * if any page was wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE_WORDS = 4096 / sizeof(uint64_t), HEADER_WORDS = 4 };
enum pattern { SEQUENTIAL, RANDOM, BURST };

static const uint64_t MAGIC = 0x79747269645f6d75; /* "um_dirty", little endian */
static const int64_t SECOND_NS = 1000000000;
static const int64_t SLICE_NS = 5000000; /* sleep no longer than this: signals and bursts */

static volatile sig_atomic_t verify_wanted, exit_wanted;

static void on_signal(int signal) {
  if (signal == SIGUSR1) verify_wanted = 1;
  else exit_wanted = 1;
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static uint64_t xorshift(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static uint64_t seed_of(uint64_t index, uint64_t generation) {
  return (index + 1) * 0x9e3779b97f4a7c15u ^ (generation + 1) * 0xc2b2ae3d27d4eb4fu;
}

static void write_page(uint64_t *page, uint64_t index, uint64_t generation) {
  uint64_t state = seed_of(index, generation), sum = 0;
  for (int i = HEADER_WORDS; i < PAGE_WORDS; i++) sum += page[i] = xorshift(&state);
  page[0] = MAGIC;
  page[1] = index;
  page[2] = generation;
  page[3] = sum;
}

/* What is wrong with the page, or NULL. */
static const char *check_page(const uint64_t *page, uint64_t index, uint64_t generation) {
  if (page[0] != MAGIC) return "no magic";
  if (page[1] != index) return "another page's";
  if (page[2] != generation) return page[2] < generation ? "stale" : "from the future";
  uint64_t state = seed_of(index, generation), sum = 0;
  for (int i = HEADER_WORDS; i < PAGE_WORDS; i++) {
    uint64_t word = xorshift(&state);
    if (page[i] != word) return "damaged";
    sum += word;
  }
  return page[3] == sum ? NULL : "wrong checksum";
}

static int verify(const uint64_t *memory, const uint32_t *generations, uint64_t pages) {
  uint64_t newest = 0, corrupt = 0;
  for (uint64_t i = 0; i < pages; i++) {
    const uint64_t *page = memory + i * PAGE_WORDS;
    const char *wrong = check_page(page, i, generations[i]);
    if (generations[i] > newest) newest = generations[i];
    if (wrong == NULL) continue;
    if (++corrupt <= 10)
      printf("dirty: CORRUPT page %llu: %s (has generation %llu, expected %u)\n",
             (unsigned long long)i, wrong, (unsigned long long)page[2], generations[i]);
  }
  if (corrupt == 0)
    printf("dirty: verified %llu pages, generation %llu\n", (unsigned long long)pages,
           (unsigned long long)newest);
  else
    printf("dirty: CORRUPT %llu of %llu pages\n", (unsigned long long)corrupt,
           (unsigned long long)pages);
  fflush(stdout);
  return corrupt == 0;
}

static void *allocate(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) return memory;
  perror("dirty: cannot allocate");
  exit(2);
}

/* Pages that may have been written `elapsed` ns after the start, at `rate` pages a second. */
static uint64_t allowance(int64_t elapsed, uint64_t rate, enum pattern pattern) {
  int64_t seconds = elapsed / SECOND_NS, rest = elapsed % SECOND_NS;
  if (pattern == BURST) rest = rest * 4 > SECOND_NS ? SECOND_NS : rest * 4;
  return (uint64_t)seconds * rate + (uint64_t)rest * rate / SECOND_NS;
}

static long number(const char *text, long max) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno == 0 && *text != '\0' && *end == '\0' && value >= 0 && value <= max) return value;
  fprintf(stderr, "dirty: not a number from 0 to %ld: %s\n", max, text);
  exit(2);
}

static enum pattern pattern_of(const char *name) {
  if (strcmp(name, "sequential") == 0) return SEQUENTIAL;
  if (strcmp(name, "random") == 0) return RANDOM;
  if (strcmp(name, "burst") == 0) return BURST;
  fprintf(stderr, "dirty: unknown pattern %s\n", name);
  exit(2);
}

int main(int argc, char **argv) {
  static const struct option OPTIONS[] = {{"size-mib", 1, NULL, 's'}, {"rate-mib", 1, NULL, 'r'},
                                          {"pattern", 1, NULL, 'p'},  {"seconds", 1, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
  long size_mib = 64, rate_mib = 0, seconds = 0;
  enum pattern pattern = SEQUENTIAL;
  int option;
  while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
    if (option == 's') size_mib = number(optarg, 1 << 20);
    else if (option == 'r') rate_mib = number(optarg, 1 << 20);
    else if (option == 'p') pattern = pattern_of(optarg);
    else if (option == 't') seconds = number(optarg, 1 << 30);
    else return 2;
  }
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);

  uint64_t pages = (uint64_t)(size_mib > 0 ? size_mib : 1) << 8, rate = (uint64_t)rate_mib << 8;
  uint64_t *memory = allocate(pages * PAGE_WORDS * sizeof *memory);
  uint32_t *generations = allocate(pages * sizeof *generations);
  for (uint64_t i = 0; i < pages; i++) write_page(memory + i * PAGE_WORDS, i, 0);
  printf("dirty: ready, %llu pages\n", (unsigned long long)pages);
  fflush(stdout);

  uint64_t written = 0, dice = 0x2545f4914f6cdd1du;
  int64_t begin = now_ns();
  while (!exit_wanted) {
    int64_t elapsed = now_ns() - begin;
    if (seconds > 0 && elapsed >= seconds * SECOND_NS) break;
    if (verify_wanted) {
      verify_wanted = 0;
      if (!verify(memory, generations, pages)) return 1;
    }
    int resting = pattern == BURST && elapsed % SECOND_NS > SECOND_NS / 4;
    if (rate > 0 ? written >= allowance(elapsed, rate, pattern) : resting) {
      nanosleep(&(struct timespec){0, SLICE_NS}, NULL);
      continue;
    }
    for (int i = 0; i < 16; i++, written++) {
      uint64_t index = (pattern == RANDOM ? xorshift(&dice) : written) % pages;
      write_page(memory + index * PAGE_WORDS, index, ++generations[index]);
    }
  }
  return verify(memory, generations, pages) ? 0 : 1;
}
