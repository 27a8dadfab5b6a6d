/**
 * The words of the house: banned homonyms, each with the words to use instead. PURE.
 *
 * Names of the design (epoch, round, shadow, cut, barrier, drain …) stand for one thing each. These names
 * had several meanings, or none that the field knows.
 */
import { type Finding, lineAt } from './finding.ts';

interface Banned {
  readonly pattern: RegExp;
  readonly instead: string;
  /** Rooms in which the word is the field's own. */
  readonly but?: RegExp;
}

/** Files that hold old spellings as data, to tell of them or to read them. */
const OLD_SPELLINGS = /\/(?:renamed|stored-report(?:\.test)?)\.ts$/;

export const BANNED: readonly Banned[] = [
  { pattern: /\b\w*Terms\b/g, instead: '…Options, or …Settings for a round' },
  {
    pattern: /\b(?:[A-Z]\w*)?Place\b/g,
    instead: '…Location, …Paths, …Address or …Position',
    but: /^tools\/testbed\//,
  },
  { pattern: /\b\w*Spelling\b/g, instead: '…Flags, for options of a command' },
  { pattern: /\b(?:Disk(?:Request|View|Keeper|Turns|Process))\b/g, instead: 'Durable…' },
  { pattern: /\b\w+Drive\b/g, instead: 'CaptureMethod; a drive is a disk', but: /command-line/ },
  { pattern: /\blookUp\b/g, instead: 'throwIfOver' },
  { pattern: /\blearn(?:Machines)?\(/g, instead: 'addFacts, calibrate', but: /switch\// },
  { pattern: /\bputRight\b|\bmend[A-Z]\w*/g, instead: 'repair' },
  { pattern: /\b(?:ProxyKeeper|KeeperMeans|Mouth|Ears)\b/g, instead: 'ProxySupervisor, services' },
  { pattern: /\b(?:process|switch|daemon)Card\w*/g, instead: 'pid file' },
  { pattern: /\bcanHold\b/g, instead: 'hasSwitchoverAck' },
  { pattern: /\bheldBytes\b/g, instead: 'bufferedBytes, occupiedBytes', but: /switch\// },
  {
    pattern: /'(?:all stopped|frames held)'/g,
    instead: "'all-stopped', 'frames-held'",
    but: OLD_SPELLINGS,
  },
  {
    pattern: /'(?:let go|as it was|not put right)'/g,
    instead: 'one word, or words-with-dashes',
    but: OLD_SPELLINGS,
  },
];

/** Returns the banned words in the text of a file. @param file its path in the repository */
export function checkGlossary(file: string, text: string): Finding[] {
  return BANNED.filter(({ but }) => but === undefined || !but.test(file)).flatMap(
    ({ pattern, instead }) =>
      [...text.matchAll(pattern)].map((match) => {
        const message = `"${match[0]}" is banned: ${instead}`;
        return { line: lineAt(text, match.index), rule: 'glossary' as const, message };
      }),
  );
}
