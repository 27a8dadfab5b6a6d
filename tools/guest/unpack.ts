import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { SetupError } from '../packages/errors.ts';

/** Script of tar that moves /lib and /bin below /usr, as in an installed Debian. */
const MERGE_USR = String.raw`s,^\(\./\)\?\(lib\|lib64\|bin\|sbin\)/,usr/\2/,S`;

/**
 * Unpacks the files of a Debian package that match `patterns` into `folder`.
 * @throws SetupError SETUP_IMAGE_INCOMPLETE when a pattern matches nothing.
 */
export async function unpackPackage(
  { path, name }: { readonly path: string; readonly name: string },
  patterns: readonly string[],
  folder: string,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const source = spawn('dpkg-deb', ['--fsys-tarfile', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const target = spawn(
    'tar',
    ['-x', '-C', folder, '--no-same-owner', '--wildcards', '--transform', MERGE_USR].concat(
      patterns.map((pattern) => `./${pattern}`),
    ),
    { stdio: ['pipe', 'ignore', 'pipe'], env: { ...process.env, LC_ALL: 'C' } },
  );
  let complaint = '';
  target.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-4096);
  });
  // tar may stop early on an error; its own message tells the cause, our EPIPE does not.
  target.stdin.on('error', () => source.kill());
  source.stdout.pipe(target.stdin);
  const [[sourceCode], [targetCode]] = await Promise.all([
    once(source, 'close'),
    once(target, 'close'),
  ]);
  if (sourceCode !== 0 || targetCode !== 0) {
    throw new SetupError('SETUP_IMAGE_INCOMPLETE', `${name}: ${reasonIn(complaint)}`);
  }
}

/** Returns what tar complains of, in words about the recipe where its pattern is the reason. */
function reasonIn(complaint: string): string {
  const unmatched = [...complaint.matchAll(/^tar: \.\/(.+): Not found in archive$/gm)];
  if (unmatched.length === 0) return complaint.trim() || 'the package is not readable';
  const patterns = unmatched.map(([, pattern]) => pattern).join(', ');
  return `the package has no file ${patterns}, which the recipe of the guest takes from it`;
}
