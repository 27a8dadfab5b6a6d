/**
 * What a consistent cut rests on, and what can be taken away from it, to show that the suite would
 * notice. For test/e2e/cut.test.ts (and background.test.ts) alone: an epoch taken so is worth
 * nothing.
 *
 *     UMBRA_BREAK=barrier,hold
 *
 *     barrier     the coordinator lets every member past the barrier as soon as that one has stopped
 *     hold        a member says that its guest's frames are held, and lets them go
 *     foresight   that QEMU will let a stopped VM run is not foreseen: the round itself has to notice
 *
 * Read once, from the environment of a process: no configuration and no request can ask for it, and
 * every round that is run so says so in the log.
 */
const PARTS = ['barrier', 'hold', 'foresight'] as const;

export type Part = (typeof PARTS)[number];

const broken = parse(process.env.UMBRA_BREAK ?? '');

export function isBroken(part: Part): boolean {
  return broken.has(part);
}

/** All that is broken, in words. */
export function brokenParts(): readonly Part[] {
  return [...broken];
}

/**
 * @throws Error for what is no part: a test that breaks nothing must not look like one that does
 */
function parse(text: string): ReadonlySet<Part> {
  const words = text.split(',').filter((word) => word !== '');
  return new Set(
    words.map((word) => {
      const part = PARTS.find((one) => one === word);
      if (part === undefined)
        throw new Error(`UMBRA_BREAK: ${word} is none of ${PARTS.join(', ')}`);
      return part;
    }),
  );
}
