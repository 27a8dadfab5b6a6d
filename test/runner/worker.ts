/**
 * Runs test files one after another in this process, as the parent names them.
 *
 *     parent                              worker
 *       ◀────────────── 'ready' ────────────
 *       ───── path of a test file ─────────▶  imports it, runs its suites, waits until nothing of
 *       ◀── exit code, if it ended now ─────  it is left to do
 *       ───── path of the next ────────────▶
 *       ───── disconnects ─────────────────▶  ends
 *
 * A file is over when the event loop is empty, as if the process were its own: a socket, timer or
 * child process that it leaves open is a file that never ends. A file that throws on import, or
 * whose tests never settle, ends this process.
 */
import { once } from 'node:events';
import { pathToFileURL } from 'node:url';

/** The queue of suites that uvu keeps on the global object: one list of suites for each file. */
declare global {
  var UVU_DEFER: number | undefined;
  var UVU_QUEUE: unknown[][];
}

// Else uvu runs what has been queued by itself. It looks at this once, when it is loaded.
globalThis.UVU_DEFER = 1;
const { exec } = await import('uvu');
process.send?.('ready');
await work();

async function work(): Promise<never> {
  for (;;) {
    // While nothing listens for messages, the channel does not keep the event loop alive.
    const [path] = (await once(process, 'message')) as [string];
    const before = look();
    globalThis.UVU_QUEUE.splice(0, Number.POSITIVE_INFINITY, [null]);
    process.exitCode = undefined;
    await import(pathToFileURL(path).href);
    await exec();
    await once(process, 'beforeExit');
    for (const what of changes(before, look())) {
      process.stdout.write(`${path} changed ${what} of the process and did not put it back\n`);
      process.exitCode = 1;
    }
    process.send?.(process.exitCode ?? 0);
  }
}

/** Reads the state that files in a process share, and that each has to leave unchanged. */
function look(): ReadonlyMap<string, unknown> {
  const umask = process.umask(0);
  process.umask(umask);
  const seen = new Map<string, unknown>([
    ['the working directory', process.cwd()],
    ['the umask', umask],
  ]);
  for (const [name, value] of Object.entries(process.env)) seen.set(`the variable ${name}`, value);
  // Listeners for `exit` run when this process ends.
  for (const event of process.eventNames().filter((name) => name !== 'exit')) {
    seen.set(`the listeners for '${String(event)}'`, process.listenerCount(event));
  }
  return seen;
}

function changes(
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
): string[] {
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].filter((name) => before.get(name) !== after.get(name));
}
