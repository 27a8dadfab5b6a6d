/** A command that finds no daemon, beside one that is ending. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lockCluster } from '../../proxy/host/lock.ts';
import { recordedProcess, recordProcess } from '../../proxy/host/pid-file.ts';
import { answers, apiSocket, daemonPidFile } from '../../proxy/host/private-socket.ts';
import { loadConfigFile, storeConfig } from '../../tools/cli/home.ts';
import { endDaemon, ensureDaemon } from '../../tools/cli/processes.ts';
import { scratchFolder } from '../support/scratch.ts';

const LIMIT_MS = 30_000;

const test = suite('daemon and command');
let home = '';
const before = process.env.UMBRA_HOME;

test.before.each(() => {
  home = mkdtempSync(join(scratchFolder(), 'umbra-home-'));
  process.env.UMBRA_HOME = home;
});
test.after.each(() => {
  if (before === undefined) delete process.env.UMBRA_HOME;
  else process.env.UMBRA_HOME = before;
  rmSync(home, { recursive: true, force: true });
});

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; !holds(); await delay(5)) {
    assert.ok(performance.now() < end, `never ${what}`);
  }
}

test('a command waits for a daemon that is ending, and then starts another', async () => {
  const file = join(home, 'cluster.yaml');
  writeFileSync(file, '{cluster: demo, members: [{name: a, qmp: /x}]}');
  const { config, text } = loadConfigFile(file);
  storeConfig(config, file, text);
  const { directory } = config;
  const card = daemonPidFile(directory);
  // What there is of it for us: its lock and its card.
  const lock = lockCluster(directory, 'demo');
  recordProcess(card, process.pid);
  const log = join(directory, 'daemon.log');
  writeFileSync(log, '');
  const starting = ensureDaemon(config, false);
  await until('refused', () => readFileSync(log, 'utf8').includes('has a daemon already'));
  rmSync(card);
  lock.release();
  assert.is(await starting, true);
  assert.ok(await answers(apiSocket(directory)));
  await endDaemon(config, async () => {
    const daemon = recordedProcess(card);
    if (daemon !== undefined) process.kill(daemon.pid, 'SIGTERM');
  });
});

test.run();
