/*
 * A guest of a few KB: no kernel, no disk, up in the time the firmware takes. It fills memory,
 * rewrites a part of it for ever, and answers on its first serial port:
 *
 *     v   verifies all it has filled     "ok SEED PASSES\n", or "bad ADDRESS\n"
 *     s   takes another seed, fills all  "seed SEED\n"
 *     b   gives all it has filled to a balloon   "given PAGES\n", or "none\n": no balloon on bus 0
 *
 *     0x00100000   this program
 *     0x00400000   FILLED bytes, each word made from its address and the seed
 *     0x00c00000   HOT bytes, rewritten by every pass: all words of a pass are the same
 *
 * QEMU enters it by PVH (the ELF note below), or machines up to 3.1 by Multiboot, in 32-bit protected
 * mode without paging. `writing`
 * says how far a pass has come: a VM that is stopped in the midst of one is not inconsistent. A timer
 * wakes it a hundred times a second; between, it sleeps.
 */
typedef unsigned int u32;
typedef unsigned char u8;

#define COM1 0x3f8
#define FILLED_AT ((volatile u32 *)0x00400000)
#define FILLED (4u << 20)
#define HOT_AT ((volatile u32 *)0x00c00000)
#define HOT (256u << 10)
/* Words between two looks at the serial port. */
#define STEP 2048u

__attribute__((section(".note"), used)) static const struct {
  u32 name_size, content_size, type;
  char name[4];
  u32 entry;
} pvh_note = {4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */, "Xen", 0x100000};

#define MULTIBOOT 0x1badb002u
__attribute__((section(".multiboot"), used)) static const u32 multiboot[] = {MULTIBOOT, 0, -MULTIBOOT};

static u32 seed, passes, writing;

static void out(u32 port, u8 value) { __asm__ volatile("outb %0, %w1" : : "a"(value), "d"(port)); }

static u8 in(u32 port) {
  u8 value;
  __asm__ volatile("inb %w1, %0" : "=a"(value) : "d"(port));
  return value;
}

static void out2(u32 port, unsigned short value) { __asm__ volatile("outw %0, %w1" : : "a"(value), "d"(port)); }
static void out4(u32 port, u32 value) { __asm__ volatile("outl %0, %w1" : : "a"(value), "d"(port)); }

static u32 in4(u32 port) {
  u32 value;
  __asm__ volatile("inl %w1, %0" : "=a"(value) : "d"(port));
  return value;
}

static void put(char c) {
  while (!(in(COM1 + 5) & 0x20));
  out(COM1, c);
}

static void text(const char *s) {
  while (*s) put(*s++);
}

static void hex(u32 value) {
  for (int shift = 28; shift >= 0; shift -= 4) put("0123456789abcdef"[value >> shift & 15]);
}

struct __attribute__((packed)) gate {
  unsigned short low, selector;
  u8 zero, type;
  unsigned short high;
};
static struct gate gates[0x21];
static unsigned long long segments[3] = {0, 0x00cf9a000000ffffull, 0x00cf92000000ffffull};

__attribute__((naked)) static void on_tick(void) {
  __asm__ volatile("push %eax\n mov $0x20, %al\n outb %al, $0x20\n pop %eax\n iret");
}

/* The first of two interrupt controllers gets vectors 0x20 to 0x27, and its timer 100 Hz. */
static void start_timer(void) {
  struct __attribute__((packed)) {
    unsigned short limit;
    u32 base;
  } table = {sizeof segments - 1, (u32)segments};
  __asm__ volatile("lgdt %0\n ljmp $8, $1f\n1: mov $16, %%eax\n mov %%eax, %%ss" : : "m"(table) : "eax");
  u32 at = (u32)on_tick;
  gates[0x20] = (struct gate){at, 8, 0, 0x8e, at >> 16};
  table.limit = sizeof gates - 1;
  table.base = (u32)gates;
  __asm__ volatile("lidt %0" : : "m"(table));
  static const u8 setup[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4},    {0x21, 1},   {0x21, 0xfe},
                                {0xa1, 0xff}, {0x43, 0x34}, {0x40, 0x9c}, {0x40, 0x2e}};
  for (u32 i = 0; i < sizeof setup / sizeof *setup; i++) out(setup[i][0], setup[i][1]);
  /* The local APIC lets the controllers' line through: a firmware of microvm's leaves it masked. */
  *(volatile u32 *)0xfee000f0 = 0x1ff;
  *(volatile u32 *)0xfee00350 = 0x700;
  __asm__ volatile("sti");
}

static u32 word(u32 at) {
  u32 x = at * 2654435761u ^ seed;
  x ^= x >> 15;
  x *= 2246822519u;
  return x ^ x >> 13;
}

static void fill(void) {
  for (u32 i = 0; i < FILLED / 4; i++) FILLED_AT[i] = word(i);
}

static void bad(volatile u32 *at) {
  text("bad ");
  hex((u32)at);
  put('\n');
}

static void verify(void) {
  for (u32 i = 0; i < FILLED / 4; i++)
    if (FILLED_AT[i] != word(i)) return bad(FILLED_AT + i);
  /* Words before `writing` are of this pass, those after it of the one before. */
  for (u32 i = 0; i < HOT / 4; i++)
    if (HOT_AT[i] != (i < writing ? passes + 1 : passes) * 2654435761u + i) return bad(HOT_AT + i);
  text("ok ");
  hex(seed);
  put(' ');
  hex(passes);
  put('\n');
}

/* A balloon by virtio's first interface (virtio 1.2, 4.1.4.8 and 2.7): registers at the ports of BAR 0, one queue
 * whose parts follow one another. The queue is of the guest's own memory and at BALLOON. */
#define BALLOON 0x00e00000u
#define BALLOON_PORTS 0xd000u
#define BALLOON_ID 0x10021af4u
struct descriptor {
  u32 address, address_high, length;
  unsigned short flags, next;
};

static u32 config(u32 slot, u32 at) {
  out4(0xcf8, 0x80000000u | slot << 11 | at);
  return in4(0xcfc);
}

static void configure(u32 slot, u32 at, u32 value) {
  out4(0xcf8, 0x80000000u | slot << 11 | at);
  out4(0xcfc, value);
}

static void inflate(void) {
  u32 slot = 0;
  while (slot < 32 && config(slot, 0) != BALLOON_ID) slot++;
  if (slot == 32) return text("none\n");
  /* One that was plugged in has no ports yet. */
  if ((config(slot, 0x10) & ~3u) == 0) configure(slot, 0x10, BALLOON_PORTS);
  configure(slot, 4, 5); /* ports, and access to memory */
  u32 ports = config(slot, 0x10) & ~3u;
  out(ports + 18, 0);
  out(ports + 18, 3); /* a driver is there */
  out4(ports + 4, 0); /* it wants no feature */
  out2(ports + 14, 0);
  u32 size = in4(ports + 12) & 0xffff;
  volatile u32 *pages = (volatile u32 *)(BALLOON + 0x10000);
  for (u32 i = 0; i < 0x20000 / 4; i++) ((volatile u32 *)BALLOON)[i] = 0;
  for (u32 i = 0; i < FILLED / 4096; i++) pages[i] = ((u32)FILLED_AT >> 12) + i;
  volatile struct descriptor *first = (volatile struct descriptor *)BALLOON;
  first->address = (u32)pages;
  first->length = FILLED / 4096 * 4;
  volatile unsigned short *available = (volatile unsigned short *)(BALLOON + size * 16);
  volatile unsigned short *used =
      (volatile unsigned short *)((BALLOON + size * 16 + 6 + size * 2 + 4095) & ~4095u);
  out4(ports + 8, BALLOON >> 12);
  out(ports + 18, 7); /* it is ready */
  available[1] = 1;
  out2(ports + 16, 0);
  while (used[1] == 0) __asm__ volatile("hlt");
  text("given ");
  hex(FILLED / 4096);
  put('\n');
}

static void serve(void) {
  while (in(COM1 + 5) & 1) {
    u8 asked = in(COM1);
    if (asked == 'v') verify();
    if (asked == 'b') inflate();
    if (asked == 's') {
      seed = seed * 1664525u + 1013904223u;
      fill();
      text("seed ");
      hex(seed);
      put('\n');
    }
  }
}

__attribute__((used)) static void run(void) {
  out(COM1 + 1, 0);
  out(COM1 + 3, 3); /* 8 bits, no parity */
  /* No FIFO: to switch it on would throw away what was asked while the guest was not up. */
  start_timer();
  seed = 1;
  fill();
  for (u32 i = 0; i < HOT / 4; i++) HOT_AT[i] = i;
  text("up\n");
  for (;;) {
    for (writing = 0; writing < HOT / 4;) {
      HOT_AT[writing] = (passes + 1) * 2654435761u + writing;
      writing++;
      if (writing % STEP == 0) {
        serve();
        __asm__ volatile("hlt");
      }
    }
    passes++;
    writing = 0;
  }
}

__attribute__((naked, section(".start"), used)) void start(void) {
  __asm__ volatile("mov $0x3f0000, %esp\n cli\n call run\n hlt");
}
