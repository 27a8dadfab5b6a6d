#!/bin/sh
# QEMU 10.0.13 (Debian trixie, 1:10.0.13+ds-0+deb13u1) beside 11.1.3 (trixie-backports,
# 1:11.1.3+ds-1~bpo13+1).
#
# A VM of machine type pc-i440fx-7.2 has one virtio device, a random generator. 10.0.13 saves it to
# a file, and 11.1.3 is started with the same command line to load it.
#
#   expected   it loads: versioned machine types are there for that, and VMs of 10.0.2 and 7.2 load
#   seen       10.0.13 gives every virtio queue 1024 entries, whatever the device or its properties
#              ask for (a random generator's has 8). 11.1.3 refuses the stream:
#              "VQ 0 vring.num 1024 exceeds allocated max 8"
#
# Output: "10.0.13: a queue of 1024 entries" and "11.1.3: VQ 0 vring.num 1024 exceeds allocated max
# 8". Source: virtio_load (hw/virtio/virtio.c); x-query-virtio-queue-status.
set -eu
. "$(dirname "$0")/unpack.sh"
unpack trixie 'qemu-system-x86=1:10.0.13+ds-0+deb13u1' "$WORK/old"
unpack 'trixie trixie-backports' 'qemu-system-x86=1:11.1.3+ds-1~bpo13+1' "$WORK/new"

cat > "$WORK/try.mjs" <<'JS'
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

const [work] = process.argv.slice(2);
const QEMU = '/usr/bin/qemu-system-x86_64';
const VM = '-nodefaults -display none -machine pc-i440fx-7.2 -m 64 -device virtio-rng-pci';
const words = (root, ...more) => [root, QEMU, ...VM.split(' '), ...more];
const versionOf = (root) =>
  /version (\S+)/.exec(spawnSync('chroot', [root, QEMU, '--version']).stdout.toString())?.[1];
const [from, to] = [`${work}/old`, `${work}/new`];

const monitor = ['-qmp', 'unix:/qmp.sock,server=on,wait=off'];
const qemu = spawn('chroot', words(from, ...monitor), { stdio: ['ignore', 'inherit', 'inherit'] });
const ended = once(qemu, 'exit');
let client;
while (client === undefined) {
  if (qemu.exitCode !== null) throw new Error('QEMU ended');
  const trying = connect(`${from}/qmp.sock`);
  client = await once(trying, 'connect').then(() => trying, () => delay(20));
}
const lines = createInterface({ input: client })[Symbol.asyncIterator]();
await lines.next();
const ask = async (execute, more = {}) => {
  client.write(`${JSON.stringify({ execute, arguments: more })}\n`);
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error('QEMU ended');
    const answer = JSON.parse(value);
    if (answer.error) throw new Error(`${execute}: ${answer.error.desc}`);
    if ('return' in answer) return answer.return;
  }
};
await ask('qmp_capabilities');
const [{ path }] = await ask('x-query-virtio');
const queue = await ask('x-query-virtio-queue-status', { path, queue: 0 });
console.log(`${versionOf(from)}: a queue of ${queue['vring-num']} entries`);
await ask('migrate', { uri: 'file:/stream' });
for (let status = ''; status !== 'completed'; await delay(20)) {
  ({ status } = await ask('query-migrate'));
  if (status === 'failed') throw new Error('it cannot be saved');
}
client.destroy();
qemu.kill('SIGKILL');
await ended;

copyFileSync(`${from}/stream`, `${to}/stream`);
const loading = spawn('chroot', words(to, '-S', '-incoming', 'file:/stream'), {
  stdio: ['ignore', 'ignore', 'pipe'],
});
let said = '';
loading.stderr.on('data', (text) => {
  said += text;
});
// It ends by itself when it refuses; one that loads waits to be told to go on.
const [code] = await Promise.race([once(loading, 'exit'), delay(120_000, ['it loads'])]);
loading.kill('SIGKILL');
const refusal = /VQ 0 vring\.num 1024 exceeds allocated max 8/.exec(said)?.[0];
console.log(`${versionOf(to)}: ${refusal ?? `${code}: ${said}`}`);
process.exitCode = queue['vring-num'] === 1024 && code === 1 && refusal ? 0 : 1;
JS
# Both are seen in one namespace.
in_it "$WORK/old" sh -euc 'mount -t proc proc "$1/new/proc"; mount --rbind /dev "$1/new/dev"
  exec node "$1/try.mjs" "$1"' sh "$WORK"
