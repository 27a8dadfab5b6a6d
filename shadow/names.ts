/**
 * Names of what a store and a catalogue hold. No other file builds or takes apart any of them.
 *
 *     STORE/shadows/r000007-1a2b3c4d/MEMBER/      folder of a round: its epoch, a random part
 *         ram-0.img  ram-0.delta                  image of RAM block 0, in full or as a delta
 *         ram-0.idx                               its page index
 *         shadow.json                             the shadow's manifest
 *     CATALOGUE/000007.json                       manifest of epoch 7
 *     CATALOGUE/000007.pin                        an operator wants epoch 7 kept
 *
 * PURE.
 */

/** File name of a shadow's manifest. An epoch names the shadow by the digest of this file. */
export const SHADOW_FILE = 'shadow.json';

/** Random bytes in the name of a round. */
export const ROUND_RANDOM_BYTES = 4;

/**
 * Kind of an image: every page of the block in its place, or only those that differ from a base,
 * packed.
 */
export type ImageKind = 'full' | 'delta';

const EPOCH_DIGITS = 6;
const ROUND_NAME = /^r\d{6,}-[0-9a-f]{8}$/;
const EPOCH_FILE = /^(\d{6,})\.json$/;
const PIN_FILE = /^(\d{6,})\.pin$/;
const IMAGE_FILE = /^ram-\d+\.(img|delta)$/;

/**
 * Returns the name of a round, and of the folder of its shadows.
 * @param epoch number of the epoch that the round is for
 * @param random ROUND_RANDOM_BYTES bytes, so that two rounds for one epoch have different names
 */
export function roundName(epoch: number, random: Uint8Array): string {
  return `r${digitsOf(epoch)}-${Buffer.from(random).toString('hex')}`;
}

/** Tells whether this is the name of a round. Umbra removes no folder with another name. */
export function isRoundName(name: string): boolean {
  return ROUND_NAME.test(name);
}

/** Returns the file name of an epoch's manifest. */
export function epochFile(epoch: number): string {
  return `${digitsOf(epoch)}.json`;
}

/** Returns the number of the epoch whose manifest has this file name; undefined for other files. */
export function epochOfFile(name: string): number | undefined {
  return numberIn(EPOCH_FILE, name);
}

/** Returns the file name of an epoch's pin. */
export function pinFile(epoch: number): string {
  return `${digitsOf(epoch)}.pin`;
}

/** Returns the number of the epoch whose pin has this file name; undefined for other files. */
export function epochOfPin(name: string): number | undefined {
  return numberIn(PIN_FILE, name);
}

/** Returns the file name of the image of a RAM block. */
export function imageName(block: number, kind: ImageKind): string {
  return `ram-${block}.${kind === 'full' ? 'img' : 'delta'}`;
}

/** Returns the kind of the image of this file name; undefined for other files. */
export function imageKindOf(name: string): ImageKind | undefined {
  const suffix = IMAGE_FILE.exec(name)?.[1];
  if (suffix === undefined) return undefined;
  return suffix === 'img' ? 'full' : 'delta';
}

/** Returns the file name of the page index of a RAM block. */
export function indexName(block: number): string {
  return `ram-${block}.idx`;
}

function digitsOf(epoch: number): string {
  return String(epoch).padStart(EPOCH_DIGITS, '0');
}

function numberIn(form: RegExp, name: string): number | undefined {
  const digits = form.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
