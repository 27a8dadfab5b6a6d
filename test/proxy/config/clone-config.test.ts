import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { cloneConfig, type RecordedMember } from '../../../proxy/config/clone-config.ts';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import type { UmbraError } from '../../../proxy/failure/failure.ts';

const HOME = '/run/u';
const FILE = '/etc/umbra/cluster.yaml';
const SOURCE = `
cluster: demo
members:
  - {name: a, command: [qemu, -qmp, 'unix:{dir}/q.sock,server=on,wait=off']}
  - {name: b, qmp: /run/vm/b/qmp.sock}
round: {stopDeadline: 5s}
store: {directory: store}
checkpoint: {every: 10min}
network: {switch: ['{dir}/net.sock']}
`;

const test = suite('clone config');
const source = parseClusterConfig(SOURCE, FILE, HOME);
const origin = { source, disconnect: false };

function recorded(name: string, qmp: string, ...words: string[]): RecordedMember {
  const monitor = ['-qmp', `unix:${qmp},server=on,wait=off`];
  return {
    name,
    commandLine: ['/usr/bin/qemu', '-nodefaults', ...monitor, ...words],
    workingDirectory: `/work/${name}`,
    directory: `${HOME}/twin/vm/${name}`,
  };
}

function net(name: string): string {
  return `stream,id=n,server=on,addr.type=unix,addr.path=${HOME}/demo/vm/${name}/net.sock`;
}

const MEMBERS = [
  recorded('a', `${HOME}/demo/vm/a/q.sock`, '-netdev', net('a')),
  recorded('b', 'qmp.sock', '-netdev', net('b')),
].map((member) => (member.name === 'b' ? { ...member, workingDirectory: '/run/vm/b' } : member));

test('a clone is a cluster like any other, in its own folder', () => {
  const { text } = cloneConfig('twin', origin, SOURCE, MEMBERS);
  const config = parseClusterConfig(text, FILE, HOME);
  assert.is(config.cluster, 'twin');
  assert.equal(
    config.members.map(({ name, qmp, workingDirectory }) => [name, qmp, workingDirectory]),
    [
      ['a', `${HOME}/twin/vm/a/q.sock`, '/work/a'],
      ['b', `${HOME}/twin/vm/b/qmp.sock`, '/run/vm/b'],
    ],
  );
  assert.equal(config.switchSockets, [`${HOME}/twin/vm/a/net.sock`, `${HOME}/twin/vm/b/net.sock`]);
  assert.is(config.round.stopDeadlineMs, 5_000);
  assert.is(config.shadowsDirectory, '/etc/umbra/store/twin/shadows');
  assert.is(config.schedule, undefined, 'it takes no checkpoints unasked');
  assert.not.match(text, `${HOME}/demo`);
});

test('a monitor the source knows by another path is found', () => {
  const { text } = cloneConfig('twin', origin, SOURCE, [recorded('a', '/var/run/vm/q.sock')]);
  const [member] = parseClusterConfig(text, FILE, HOME).members;
  assert.is(member?.qmp, `${HOME}/twin/vm/a/q.sock`);
});

test('options unknown to this version are left out', () => {
  const { text } = cloneConfig('twin', origin, `${SOURCE}persist: {to: /backup}\n`, MEMBERS);
  assert.not('persist' in (parse(text) as object));
});

const BAD: readonly (readonly [what: string, member: RecordedMember, message: RegExp])[] = [
  ['no monitor', { ...recorded('a', ''), commandLine: ['q', '-nodefaults'] }, /makes its monitor/],
  [
    'a word that would be filled in',
    recorded('a', `${HOME}/demo/vm/a/q.sock`, '-append', '{name}'),
    /\{name\}: /,
  ],
  ['a TCP port', recorded('a', `${HOME}/demo/vm/a/q.sock`, '-s'), /^-s: /],
];

for (const [what, member, message] of BAD) {
  test(`${what}: refused, and the member is named`, () => {
    try {
      cloneConfig('twin', origin, SOURCE, [member]);
    } catch (error) {
      const { failure } = error as UmbraError;
      assert.is(failure.code, 'E_CLONE_COMMAND');
      assert.is(failure.member, 'a');
      assert.match(failure.message, message);
      return;
    }
    assert.unreachable();
  });
}

test.run();
