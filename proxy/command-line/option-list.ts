/**
 * A QEMU command line as a list of options. PURE.
 *
 *     -machine pc,accel=kvm  -m 512  -nodefaults  disk.img
 *     │        └ value               └ a flag     └ a bare word: a disk image
 *     └ name, with one dash or two
 *
 * What a value says in turn is for option-value.ts.
 */

/** Options that take no value (qemu-options.hx); every other one takes the next word. */
const FLAGS: ReadonlySet<string> = new Set([
  'S',
  'alt-grab',
  'ctrl-grab',
  'curses',
  'daemonize',
  'enable-kvm',
  'enable-sync-profile',
  'full-screen',
  'jitdump',
  'mem-prealloc',
  'nodefaults',
  'no-acpi',
  'no-fd-bootchk',
  'no-hpet',
  'no-reboot',
  'no-shutdown',
  'no-user-config',
  'nographic',
  'only-migratable',
  'perfmap',
  'portrait',
  'preconfig',
  's',
  'semihosting',
  'show-cursor',
  'singlestep',
  'snapshot',
  'usb',
  'win2k-hack',
  'xen-attach',
  'xen-domid-restrict',
]);

/** One option of a command line. */
export interface QemuOption {
  /** Its name without dashes; '' for a bare word (a disk image). */
  readonly name: string;
  /** The word after it; undefined for a flag. */
  readonly value: string | undefined;
}

/** Splits arguments (a command line without its program) into options. */
export function parseOptions(words: readonly string[]): QemuOption[] {
  const options: QemuOption[] = [];
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    const name = /^--?([^-].*)$/s.exec(word)?.[1];
    if (name === undefined) {
      options.push({ name: '', value: word });
      continue;
    }
    options.push({ name, value: FLAGS.has(name) ? undefined : words[++index] });
  }
  return options;
}

/** Joins options into arguments, each name with one dash. */
export function formatOptions(options: readonly QemuOption[]): string[] {
  return options.flatMap(({ name, value }) => {
    if (name === '') return [value ?? ''];
    return value === undefined ? [`-${name}`] : [`-${name}`, value];
  });
}

/**
 * Returns a command line whose QEMU does not put itself into the background: it would be another
 * process than the one that was started, and known to none.
 */
export function inForeground(commandLine: readonly string[]): readonly string[] {
  const [program = '', ...words] = commandLine;
  const options = parseOptions(words);
  if (options.every(({ name }) => name !== 'daemonize')) return commandLine;
  return [program, ...formatOptions(options.filter(({ name }) => name !== 'daemonize'))];
}

/** Returns the options of a whole command line, which begins with the program. */
export function optionsOf(commandLine: readonly string[]): QemuOption[] {
  return parseOptions(commandLine.slice(1));
}
