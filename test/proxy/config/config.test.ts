import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { clusterDirectory, parseClusterConfig } from '../../../proxy/config/config.ts';
import { CONFIG_LIMIT_BYTES } from '../../../proxy/config/text.ts';
import { parseDuration, parseSize } from '../../../proxy/config/units.ts';
import type { UmbraError } from '../../../proxy/failure/failure.ts';

const HOME = '/run/umbra';
const MEMBER = "{name: a, command: [qemu, -qmp, 'unix:{dir}/q.sock,server=on,wait=off']}";

function parse(text: string) {
  return parseClusterConfig(text, '/etc/umbra/cluster.yaml', HOME);
}

function problems(text: string): UmbraError {
  try {
    parse(text);
  } catch (error) {
    return error as UmbraError;
  }
  throw new Error(`accepted: ${text}`);
}

const test = suite('config');

test('a libvirt domain gives its own name, and is reached through an Umbra socket', () => {
  const { members } = parse(
    '{cluster: demo, members: [{libvirt: "qemu:///system", domain: web1}]}',
  );
  assert.equal(members, [
    {
      name: 'web1',
      command: undefined,
      qmp: '/run/umbra/demo/vm/web1/qmp.sock',
      workingDirectory: '/etc/umbra',
      directory: '/run/umbra/demo/vm/web1',
      libvirt: { uri: 'qemu:///system', domain: 'web1' },
    },
  ]);
  const named = '{cluster: demo, members: [{name: w, libvirt: "qemu:///system", domain: "Web 1"}]}';
  assert.is(parse(named).members[0]?.name, 'w');
});

test('a domain needs a URI and a valid name, and takes no options of a QEMU', () => {
  const wrong = {
    '{libvirt: "qemu:///system"}': 'members[0].domain',
    '{domain: web1}': 'members[0].libvirt',
    '{libvirt: "qemu:///system", domain: "Web 1"}': 'members[0].name',
    '{libvirt: "qemu:///system", domain: web1, qmp: /run/x}': 'members[0].qmp',
    '{libvirt: "qemu:///system", domain: web1, command: [qemu]}': 'members[0].command',
    '{qmp: /run/x}': 'members[0].name',
  };
  for (const [member, at] of Object.entries(wrong)) {
    const error = problems(`{cluster: demo, members: [${member}]}`);
    assert.is(error.code, 'E_CONFIG');
    assert.match(error.message, at, member);
  }
});

test('the smallest config gets every default', () => {
  const config = parse(`{cluster: demo, members: [${MEMBER}]}`);
  assert.equal(config.round, {
    capture: ['tracked', 'background', 'precopy', 'stop-copy'],
    cut: 'auto',
    disks: 'leave',
    hugePages: 'auto',
    compareEmulated: true,
    prove: 'never',
    stopDeadlineMs: 10_000,
    endWhen: [
      { kind: 'all-first-pass' },
      { kind: 'memory-bound', factor: 2 },
      { kind: 'elapsed', ms: 60_000 },
    ],
    multiplexing: { kind: 'finish-together', slotMs: 100, atOnce: 2 },
    inFlightBytes: 64 * 2 ** 20,
  });
  assert.equal(config.store, {
    headroomBytes: 256 * 2 ** 20,
    budgetBytes: undefined,
    recycle: true,
    delta: true,
    foldAt: 0.5,
    queueLimitMs: 0,
  });
  assert.is(config.schedule, undefined);
  assert.equal(config.epochs, { keep: 2, keepForMs: undefined });
  assert.equal(config.members[0], {
    name: 'a',
    command: ['qemu', '-qmp', 'unix:/run/umbra/demo/vm/a/q.sock,server=on,wait=off'],
    qmp: '/run/umbra/demo/vm/a/q.sock',
    workingDirectory: '/etc/umbra',
    directory: '/run/umbra/demo/vm/a',
  });
});

test('the durable tier: relative to the file, a folder a cluster, as many as in memory', () => {
  const config = parse(
    `{cluster: demo, members: [${MEMBER}], epochs: {keep: 3}, persist: {to: disk, rate: 200MiB}}`,
  );
  assert.equal(config.persist, {
    directory: '/etc/umbra/disk/demo',
    mode: 'background',
    rate: 200 * 2 ** 20,
    parallel: 2,
    keep: 3,
    timeLimitMs: 600_000,
  });
  assert.is(parse(`{cluster: demo, members: [${MEMBER}]}`).persist, undefined);
});

test('placeholders, relative paths, units', () => {
  const config = parse(`
cluster: demo
members:
  - {name: a, qmp: '{name}-{index}.sock'}
  - {name: b, qmp: '{name}-{index}.sock', workingDirectory: vm}
store: {directory: store, headroom: 1.5 GiB}
round:
  stopDeadline: 250ms
  maxLive: 2min
  endWhen: [predicted-downtime 50ms, no-progress]
  memoryBound: 3
network: {switch: ['{dir}/net.sock']}
`);
  assert.equal(
    config.members.map(({ qmp }) => qmp),
    ['/etc/umbra/a-0.sock', '/etc/umbra/b-1.sock'],
  );
  assert.is(config.members[1]?.workingDirectory, '/etc/umbra/vm');
  assert.is(config.shadowsDirectory, '/etc/umbra/store/demo/shadows');
  assert.is(config.store.headroomBytes, 1.5 * 2 ** 30);
  assert.is(config.round.stopDeadlineMs, 250);
  assert.equal(config.round.endWhen.slice(0, 2), [
    { kind: 'predicted-downtime', ms: 50 },
    { kind: 'no-progress' },
  ]);
  assert.equal(config.round.endWhen.slice(2), [
    { kind: 'memory-bound', factor: 3 },
    { kind: 'elapsed', ms: 120_000 },
  ]);
  assert.equal(config.switchSockets, [
    '/run/umbra/demo/vm/a/net.sock',
    '/run/umbra/demo/vm/b/net.sock',
  ]);
});

test('captures are tried in the order given; one alone has no other to fall back to', () => {
  const captures = (capture: string) => {
    const text = `{cluster: demo, members: [${MEMBER}], round: {capture: ${capture}}}`;
    return parse(text).round.capture;
  };
  assert.equal(captures('background'), ['background']);
  assert.equal(captures('[background, stop-copy]'), ['background', 'stop-copy']);
});

test('multiplexing, budget and schedule', () => {
  const config = parse(`
cluster: demo
members: [{name: a, qmp: a.sock}, {name: b, qmp: b.sock}]
round: {multiplexing: finish-together, slots: 1, slot: 200ms, inFlight: 8MiB}
store: {budget: 2GiB, whenFull: queue, queueLimit: 30s}
checkpoint: {every: optimal, mtbf: 24h, liveSlowdown: 0.1}
`);
  assert.equal(config.round.multiplexing, { kind: 'finish-together', slotMs: 200, atOnce: 1 });
  assert.is(config.round.inFlightBytes, 8 * 2 ** 20);
  assert.is(config.store.budgetBytes, 2 ** 31);
  assert.is(config.store.queueLimitMs, 30_000);
  assert.equal(config.schedule, {
    interval: { kind: 'optimal', mtbfMs: 86_400_000 },
    liveSlowdown: 0.1,
  });
  const fixed = parse(`{cluster: demo, members: [${MEMBER}], checkpoint: {every: 10min}}`);
  assert.equal(fixed.schedule?.interval, { kind: 'fixed', everyMs: 600_000 });
});

/** Policies that contradict each other or themselves: [the settings, what is said]. */
const CONTRADICTIONS: readonly (readonly [string, RegExp])[] = [
  ['round: {capture: []}', /round\.capture/],
  ['round: {capture: [precopy, precopy]}', /round\.capture\[1\]: precopy is listed already/],
  ['round: {capture: [stop-copy, precopy]}', /round\.capture\[1\]: never tried/],
  ['round: {capture: [precopy, auto]}', /round\.capture/],
  ['persist: {}', /persist\.to: /],
  ['persist: {to: d, mode: sometimes}', /persist\.mode: .*before-commit/],
  ['persist: {to: d, rate: 3}', /persist\.rate: must be a size/],
  ['persist: {to: d, rate: 1KiB}', /persist\.rate: must be at least 1MiB/],
  ['persist: {to: d, parallel: 0}', /persist\.parallel: must be at least 1/],
  ['persist: {to: d, keep: 0}', /persist\.keep: must keep at least 1/],
  ['persist: {to: d, timeLimit: 5s}', /persist\.timeLimit: no round waits/],
  ['persist: {to: /run/umbra}', /persist\.to: .* must not overlap/],
  ['persist: {to: s}\nstore: {directory: s}', /persist\.to: .* must not overlap/],
  ['round: {slots: 0, multiplexing: round-robin}', /round\.slots: must be at least 1/],
  [
    'round: {slots: 1, multiplexing: parallel}',
    /round\.slots: multiplexing parallel lets all stream/,
  ],
  ['round: {slots: 3, multiplexing: round-robin}', /round\.slots: 3 of 2 members cannot/],
  ['round: {slot: 10ms}', /round\.slot: must be at least 50ms/],
  ['round: {slot: 2min, maxLive: 1min}', /round\.slot: is longer than round\.maxLive/],
  ['round: {slot: 3 moons}', /round\.slot: must be a duration.*3 moons/],
  ['round: {dirtyShare: 0.5, multiplexing: round-robin}', /round\.dirtyShare: only multiplexing/],
  ['round: {dirtyShare: 0, multiplexing: parallel}', /round\.dirtyShare: must be more than 0/],
  ['round: {multiplexing: sometimes}', /round\.multiplexing: .*finish-together/],
  ['round: {memoryBound: 0.9}', /round\.memoryBound: must be at least 1/],
  ['round: {maxLive: 1ms}', /round\.maxLive: must be at least 50ms/],
  ['round: {inFlight: 1kB}', /round\.inFlight: must be at least 1MiB/],
  ['round: {endWhen: [no-progress, no-progress]}', /endWhen\[1\]: no-progress is listed already/],
  [
    'round: {endWhen: [all-first-pass, no-progress]}',
    /endWhen\[1\]: no-progress never holds before all-first-pass/,
  ],
  [
    'round: {endWhen: [predicted-downtime 10s]}',
    /endWhen\[0\]: a downtime of 10000 ms breaks round\.stopDeadline/,
  ],
  ['store: {budget: 0B}', /store\.budget: must be more than zero/],
  ['store: {budget: 100MiB}', /store\.budget: 104857600 bytes are less than in-flight alone/],
  ['store: {budget: 9 lives}', /store\.budget: must be a size.*9 lives/],
  ['store: {queueLimit: 5s}', /store\.queueLimit: nothing is queued unless/],
  ['store: {whenFull: explode}', /store\.whenFull: .*refuse/],
  ['checkpoint: {every: optimal}', /checkpoint\.mtbf: every: optimal needs it/],
  ['checkpoint: {every: optimal, mtbf: 1ms}', /checkpoint\.mtbf: must be at least 1min/],
  [
    'round: {endWhen: [all-first-pass, any-first-pass]}',
    /endWhen\[0\]: all-first-pass never holds before any-first-pass/,
  ],
  ['checkpoint: {every: 1min, mtbf: 1h}', /checkpoint\.mtbf: has no effect on a fixed period/],
  ['checkpoint: {every: 10ms}', /checkpoint\.every: must be .*at least 1s/],
  ['checkpoint: {every: weekly}', /checkpoint\.every: must be .*optimal/],
  ['checkpoint: {mtbf: 1h}', /checkpoint\.every: /],
];

for (const [settings, expected] of CONTRADICTIONS) {
  test(`refuses ${settings}`, () => {
    const both = '[{name: a, qmp: a.sock}, {name: b, qmp: b.sock}]';
    const error = problems(`cluster: demo\nmembers: ${both}\n${settings}`);
    assert.is(error.code, 'E_CONFIG');
    assert.match(error.message, expected);
  });
}

const WRONG: readonly (readonly [name: string, text: string, expected: readonly RegExp[]])[] = [
  ['no YAML', '{cluster: [', [/cluster\.yaml: \d problem/]],
  ['nothing', '', [/expected object|Invalid input/]],
  ['a slash in the name', `{cluster: a/b, members: [${MEMBER}]}`, [/cluster: must be 1 to 32/]],
  ['no members', '{cluster: a, members: []}', [/members: must list at least one/]],
  ['a member with nothing', '{cluster: a, members: [{name: a}]}', [/members\[0\]: give either/]],
  [
    'no monitor',
    '{cluster: a, members: [{name: a, command: [q]}]}',
    [/members\[0\]\.command: has no/],
  ],
  [
    'twice the same',
    `{cluster: a, members: [${MEMBER}, ${MEMBER}]}`,
    [/members\[1\]\.name: a is the name of another/],
  ],
  [
    'an unknown unit',
    `{cluster: a, members: [${MEMBER}], store: {headroom: 3 parsecs}}`,
    [/store\.headroom: must be a size.*3 parsecs/],
  ],
  [
    'no unit',
    `{cluster: a, members: [${MEMBER}], round: {maxLive: 5}}`,
    [/round\.maxLive: must be/],
  ],
  [
    'a deadline of nothing',
    `{cluster: a, members: [${MEMBER}], round: {stopDeadline: 0s}}`,
    [/round\.stopDeadline: must be more than zero/],
  ],
  [
    'keep for a while that is none',
    `{cluster: a, members: [${MEMBER}], epochs: {keepFor: 0s}}`,
    [/epochs\.keepFor: must be more than zero/],
  ],
  [
    'keep for ever',
    `{cluster: a, members: [${MEMBER}], epochs: {keepFor: 9000h}}`,
    [/epochs\.keepFor: must be 8760h at most/],
  ],
  [
    'keep none',
    `{cluster: a, members: [${MEMBER}], epochs: {keep: 0}}`,
    [/epochs\.keep: must keep/],
  ],
  [
    'a misspelt option',
    `{cluster: a, members: [${MEMBER}], rounds: {}}`,
    [/rounds: no such option/],
  ],
  [
    'a path no socket can have',
    `{cluster: a, members: [{name: a, qmp: /${'x'.repeat(120)}}]}`,
    [/members\[0\]\.qmp: 121 bytes are too long/],
  ],
  [
    'an old spelling of a value, naming the new one',
    `{cluster: a, members: [${MEMBER}], round: {cut: frames held}}`,
    [/round\.cut: .*; "frames held" is written frames-held now/],
  ],
  [
    'an old name of an option, naming the new one',
    `{cluster: a, members: [${MEMBER}], round: {protocol: auto}}`,
    [/round\.protocol: no such option; it is called cut now/],
  ],
  [
    'several at once',
    '{cluster: A, members: [{name: "", qmp: q}], restore: {mode: magic}}',
    [/cluster: /, /members\[0\]\.name: /, /restore\.mode: /],
  ],
];

for (const [name, text, expected] of WRONG) {
  test(`refuses ${name}, naming where`, () => {
    const error = problems(text);
    assert.is(error.code, 'E_CONFIG');
    for (const pattern of expected) assert.match(error.message, pattern);
    assert.match(error.failure.hint ?? '', 'nothing was started');
  });
}

test('a problem is named by its line, where the file has it', () => {
  const text = `cluster: a
members:
  - ${MEMBER}
  - name: b
store:
  headroom: 3 parsecs
rounds: {}
`;
  const { message } = problems(text);
  assert.match(message, /\n {2}line 6: store\.headroom: must be/);
  assert.match(message, /\n {2}line 7: rounds: no such option/);
  assert.match(problems(text.replace(/store:[\s\S]*/, '')).message, /line 4: members\[1\]: give/);
  assert.match(problems('members: []').message, /\n {2}cluster: .*\n {2}line 1: members: /);
});

test('aliases cannot be made to explode', () => {
  const bomb = `a: &a [${'x,'.repeat(50)}]\nb: &b [${'*a,'.repeat(50)}]\nc: [${'*b,'.repeat(50)}]`;
  assert.throws(() => parse(bomb), /Excessive alias count/);
});

test('YAML that cannot be parsed is a problem of the file, with its code', () => {
  const long = `cluster: ${'x'.repeat(100_000)}`;
  const many = `cluster: demo\nmembers: [${'7, '.repeat(5_000)}]`;
  for (const text of ['a: *b', '['.repeat(5_000), '&a '.repeat(5_000), long, many]) {
    try {
      parse(text);
      assert.unreachable(text.slice(0, 20));
    } catch (error) {
      assert.is((error as UmbraError).code, 'E_CONFIG');
      assert.ok((error as Error).message.length < 60_000, 'of a length that can be read');
    }
  }
});

test('a file may be as long as the limit, and no longer', () => {
  const text = 'cluster: demo\nmembers: [{name: a, qmp: /x}]\n';
  const padded = `${text}#${' '.repeat(CONFIG_LIMIT_BYTES - text.length - 1)}`;
  assert.is(parse(padded).cluster, 'demo');
  assert.throws(() => parse(`${padded} `), /are more than the limit, 4194304/);
});

test('no path holds a NUL', () => {
  for (const member of ['qmp: "/x\\0"', 'command: ["a\\0", -qmp, "unix:/x,server=on"]']) {
    assert.throws(() => parse(`{cluster: demo, members: [{name: a, ${member}}]}`), /hold a NUL/);
  }
});

test('a name that would leave the home is refused everywhere', () => {
  for (const name of ['../x', 'a/b', '', '.', 'A', '-a', 'a-', 'x'.repeat(33)]) {
    assert.throws(() => clusterDirectory(HOME, name), /no cluster name/);
  }
});

test('sizes and durations', () => {
  const sizes: readonly (readonly [string, number | undefined])[] = [
    ['1B', 1],
    ['512MiB', 2 ** 29],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['2GB', 2e9],
    ['512', undefined],
    ['-1MiB', undefined],
    ['1mib', undefined],
    ['1e3B', undefined],
    ['', undefined],
  ];
  for (const [text, value] of sizes) assert.is(parseSize(text), value, text);
  const durations: readonly (readonly [string, number | undefined])[] = [
    ['250ms', 250],
    ['1.5s', 1500],
    ['2min', 120_000],
    ['1h', 3_600_000],
    ['1m', undefined],
    ['s', undefined],
  ];
  for (const [text, value] of durations) assert.is(parseDuration(text), value, text);
});

test.run();
