import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Switch } from './switch.ts';

const usage = `usage: switch --port SOCKET [--port SOCKET ...] [--until-gone FOLDER]

Joins the guests behind QEMU's stream netdev sockets into one Ethernet segment. Guests may come and
go. Ends on SIGTERM, SIGINT, or when FOLDER disappears; SIGUSR2 prints each port's counters.
`;

const FOLDER_CHECK_MS = 500;

function main(): void {
  const { port: paths = [], 'until-gone': folder } = parseArgs({
    options: { port: { type: 'string', multiple: true }, 'until-gone': { type: 'string' } },
  }).values;
  if (paths.length === 0) throw new Error('no --port');
  const ethernet = new Switch(paths);
  const watch =
    folder === undefined
      ? undefined
      : setInterval(() => {
          if (!existsSync(folder)) end();
        }, FOLDER_CHECK_MS);
  const end = (): void => {
    clearInterval(watch);
    ethernet.close();
    process.removeAllListeners('SIGUSR2');
  };
  process.on('SIGTERM', end).on('SIGINT', end);
  process.on('SIGUSR2', () => process.stderr.write(`${JSON.stringify(ethernet.stats)}\n`));
  ethernet.start();
  process.stdout.write(`switch: ${paths.length} ports\n`);
}

try {
  main();
} catch (error) {
  process.stderr.write(`switch: ${error instanceof Error ? error.message : error}\n${usage}`);
  process.exitCode = 2;
}
