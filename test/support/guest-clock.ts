/** Reads a guest's wall clock by the guest's own means, for tests of what Umbra says of it. */

/** Bounds of a guest's clock less the host's, milliseconds. */
export interface ClockBounds {
  readonly least: number;
  readonly most: number;
}

const READINGS = 3;

/**
 * Returns the narrowest bounds of some readings: the first after a restore is slow.
 * @param shell runs a command in the guest, and gives its output
 */
export async function clockBounds(
  shell: (command: string) => Promise<string>,
): Promise<ClockBounds> {
  const found: ClockBounds[] = [];
  while (found.length < READINGS) found.push(await readBounds(shell));
  return found.reduce((best, one) => (width(one) < width(best) ? one : best));
}

const width = ({ least, most }: ClockBounds) => most - least;

async function readBounds(shell: (command: string) => Promise<string>): Promise<ClockBounds> {
  const askedMs = Date.now();
  const said = await shell('adjtimex');
  const answeredMs = Date.now() + 1; // Date.now() rounds down
  const figure = (name: string) => {
    const found = new RegExp(`time\\.${name}: *(\\d+)`).exec(said)?.[1];
    if (found === undefined) throw new Error(`no ${name}: ${said}`);
    return Number(found);
  };
  const guestMs = figure('tv_sec') * 1000 + figure('tv_usec') / 1000;
  return { least: guestMs - answeredMs, most: guestMs - askedMs };
}
