/**
 * Notices a round in which nothing moves any more. A round may take long: large VMs are saved for
 * minutes. A move is a report, another state of the round, or a byte of any member's stream.
 */
export class Standstill {
  readonly #timer: NodeJS.Timeout;
  readonly #bytes = new Map<string, number>();

  constructor(limitMs: number, onStandstill: () => void) {
    this.#timer = setTimeout(onStandstill, limitMs);
  }

  moved(): void {
    this.#timer.refresh();
  }

  /** @param bytes read of a member's stream so far */
  sampled(member: string, bytes: number): void {
    if (bytes <= (this.#bytes.get(member) ?? 0)) return;
    this.#bytes.set(member, bytes);
    this.moved();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
