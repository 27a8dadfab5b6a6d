/**
 * Virtual time: events in the order of their time, those of one instant in the order they were
 * asked for. A binary heap; millions of events go through it, so it moves one hole instead of
 * swapping.
 */
export type Happening = () => void;

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly happening: Happening;
}

export class Events {
  readonly #heap: Event[] = [];
  #asked = 0;
  #nowMs = 0;

  /** Returns the milliseconds of virtual time since the beginning. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** @param delayMs milliseconds from now; less than nothing is now */
  after(delayMs: number, happening: Happening): void {
    this.at(this.#nowMs + delayMs, happening);
  }

  /** @param atMs milliseconds since the beginning; the past is now */
  at(atMs: number, happening: Happening): void {
    this.#add({ atMs: Math.max(atMs, this.#nowMs), order: this.#asked++, happening });
  }

  /**
   * Lets events happen until `isOver` or there are none.
   *
   * @param limitMs virtual milliseconds that are never passed
   * @returns whether it is over
   */
  run(isOver: () => boolean, limitMs: number): boolean {
    while (!isOver()) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > limitMs) return false;
      this.#removeFirst();
      this.#nowMs = next.atMs;
      next.happening();
    }
    return true;
  }

  #add(event: Event): void {
    const heap = this.#heap;
    let hole = heap.length;
    heap.push(event);
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(event, parent)) break;
      heap[hole] = parent;
      hole = above;
    }
    heap[hole] = event;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const event = heap.pop();
    if (event === undefined || heap.length === 0) return;
    let hole = 0;
    for (;;) {
      const below = lesserBelow(heap, hole);
      const child = heap[below];
      if (child === undefined || !isBefore(child, event)) break;
      heap[hole] = child;
      hole = below;
    }
    heap[hole] = event;
  }
}

function lesserBelow(heap: readonly Event[], index: number): number {
  const left = 2 * index + 1;
  const one = heap[left];
  const other = heap[left + 1];
  return one !== undefined && other !== undefined && isBefore(other, one) ? left + 1 : left;
}

function isBefore(one: Event, other: Event): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}
