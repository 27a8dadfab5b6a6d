/**
 * Phases of a round's members. PURE. Members per phase are counted, so that "have all of them?" is
 * one comparison: a walk at every report would cost N² for N members.
 */
export class Phases<Phase extends string> {
  readonly #phases: Map<string, Phase>;
  readonly #counts = new Map<Phase, number>();

  constructor(phases: Iterable<readonly [string, Phase]>) {
    this.#phases = new Map(phases);
    for (const phase of this.#phases.values()) this.#count(phase, 1);
  }

  copy(): Phases<Phase> {
    return new Phases(this.#phases);
  }

  get(member: string): Phase | undefined {
    return this.#phases.get(member);
  }

  set(member: string, phase: Phase): void {
    const before = this.#phases.get(member);
    if (before === undefined || before === phase) return;
    this.#phases.set(member, phase);
    this.#count(before, -1);
    this.#count(phase, 1);
  }

  /** Tells whether every member is in one of these phases. */
  all(...phases: readonly Phase[]): boolean {
    const there = phases.reduce((sum, phase) => sum + (this.#counts.get(phase) ?? 0), 0);
    return there === this.#phases.size;
  }

  names(): readonly string[] {
    return [...this.#phases.keys()];
  }

  /** Returns the members in a phase, in the order of the cluster. */
  in(phase: Phase): readonly string[] {
    if ((this.#counts.get(phase) ?? 0) === 0) return [];
    return [...this.#phases].filter(([, one]) => one === phase).map(([name]) => name);
  }

  [Symbol.iterator](): IterableIterator<[string, Phase]> {
    return this.#phases.entries();
  }

  #count(phase: Phase, change: number): void {
    this.#counts.set(phase, (this.#counts.get(phase) ?? 0) + change);
  }
}
