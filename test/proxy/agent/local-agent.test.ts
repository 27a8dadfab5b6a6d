/** The agent after a refusal: its member has a VM, or a program in place of one, and no proxy. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LocalAgent } from '../../../proxy/agent/local-agent.ts';
import { queryProgram } from '../../../proxy/agent/restores/program.ts';
import { recordVm } from '../../../proxy/agent/vms/vm-process.ts';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import { toFailure } from '../../../proxy/failure/failure.ts';
import { startTimeOf } from '../../../proxy/host/pid-file.ts';
import { Catalogue } from '../../../shadow/index.ts';
import { scratchFolder } from '../../support/scratch.ts';

const test = suite('local agent');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-agent-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** Makes a program in place of QEMU that only leaves a trace. */
function program(name: string): { path: string; hasRun(): boolean } {
  const path = join(root, name);
  writeFileSync(path, '#!/bin/sh\n: > "$0.ran"\n', { mode: 0o700 });
  return { path, hasRun: () => existsSync(`${path}.ran`) };
}

test('a checkpoint that is refused asks no QEMU what it can build', async () => {
  const text = '{cluster: demo, members: [{name: a, qmp: /x}]}';
  const config = parseClusterConfig(text, '/etc/cluster.yaml', root);
  const [directory = ''] = config.members.map((member) => member.directory);
  mkdirSync(directory, { recursive: true });
  const qemu = program('qemu');
  const { pid } = process;
  const owned = { startTime: startTimeOf(pid) ?? '', workingDirectory: '/', owned: true };
  recordVm(directory, { pid, commandLine: [qemu.path], ...owned });
  const catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  const agent = new LocalAgent(config, catalogue, pino({ level: 'silent' }));
  const refusal = await agent.admit().catch((error: unknown) => toFailure(error, {}).code);
  assert.is(refusal, 'E_PROXY_GONE');
  const other = program('other'); // asked later, it would answer later
  await queryProgram(other.path);
  assert.ok(other.hasRun());
  assert.not(qemu.hasRun());
});

test.run();
