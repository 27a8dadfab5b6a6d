#!/bin/sh
# QEMU 7.2.22 (Debian qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3).
#
# A VM has a disk by `-drive file=disk.raw,format=raw,if=virtio`. The file is renamed, and another
# is put in its place, which is what `cp new tmp && mv tmp disk.raw` does. The VM rightly goes on
# with the file that it has open.
#
#   expected   a migration to elsewhere, and `cont`: the VM goes on with the file it has open
#   seen       from the end of the migration on, it reads and writes the other file. Status, events
#              and log say nothing
#
# A disk by `-blockdev` keeps its file. 10.0.2 does the same as 7.2.22.
# Source: bdrv_inactivate_all (block.c) drops the right to write, and raw_reconfigure_getfd
# (block/file-posix.c) opens the name for reading: `-drive` has auto-read-only=on, `-blockdev` off.
#
# Output: "disk of -drive: the VM writes to B", "disk of -blockdev: the VM writes to A", where A is
# the file that QEMU has open, and B the one that has taken its name.
set -eu
. "$(dirname "$0")/unpack.sh"
unpack bookworm 'qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3' "$WORK/root"

cat > "$WORK/try.mjs" <<'JS'
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

const [root] = process.argv.slice(2);
const MIB = 2 ** 20;
const DISKS = {
  drive: ['-drive', 'file=/disk.raw,format=raw,if=virtio,id=disk'],
  blockdev: [
    ...['-blockdev', 'file,node-name=file,filename=/disk.raw'],
    ...['-blockdev', 'raw,node-name=raw,file=file', '-device', 'virtio-blk-pci,drive=raw,id=disk'],
  ],
};

/** Returns the file that the VM writes to after its migration: A is its own, B took its name. */
async function migrated(disk) {
  const [path, socket] = [`${root}/disk.raw`, `${root}/qmp.sock`];
  rmSync(socket, { force: true });
  writeFileSync(path, Buffer.alloc(MIB, 'A'));
  const options = ['-nodefaults', '-display', 'none', '-machine', 'pc', '-m', '64', ...disk];
  const monitor = ['-qmp', 'unix:/qmp.sock,server=on,wait=off'];
  const words = [root, '/usr/bin/qemu-system-x86_64', ...options, ...monitor];
  const qemu = spawn('chroot', words, { stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = once(qemu, 'exit');
  try {
    let client;
    while (client === undefined) {
      if (qemu.exitCode !== null) throw new Error('QEMU ended');
      const trying = connect(socket);
      client = await once(trying, 'connect').then(() => trying, () => delay(20));
    }
    const lines = createInterface({ input: client })[Symbol.asyncIterator]();
    await lines.next();
    const ask = async (execute, words = {}) => {
      client.write(`${JSON.stringify({ execute, arguments: words })}\n`);
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new Error('QEMU ended');
        const answer = JSON.parse(value);
        if (answer.error) throw new Error(`${execute}: ${answer.error.desc}`);
        if ('return' in answer) return answer.return;
      }
    };
    await ask('qmp_capabilities');
    renameSync(path, `${path}.aside`);
    writeFileSync(path, Buffer.alloc(MIB, 'B'));
    await ask('migrate', { uri: 'unix:/stream.sock' });
    let status = '';
    while (!['completed', 'failed'].includes(status)) {
      await delay(20);
      ({ status } = await ask('query-migrate'));
    }
    if (status !== 'completed') throw new Error(`the migration ${status}`);
    await ask('cont');
    const letter = await writtenTo(ask);
    client.destroy();
    return letter;
  } finally {
    qemu.kill('SIGKILL');
    await ended;
  }
}

/** Has QEMU write to the disk's second sector, and looks into which file that went. */
async function writtenTo(ask) {
  const [{ device, qdev }] = await ask('query-block');
  const command = `qemu-io ${device ? device : `-d ${qdev}`} "write -P 0x5a 512 512"`;
  await ask('human-monitor-command', { 'command-line': command });
  const at = (path) => readFileSync(path)[512] === 0x5a;
  if (at(`${root}/disk.raw`)) return 'B';
  return at(`${root}/disk.raw.aside`) ? 'A' : 'neither';
}

// Takes the streams, and forgets them.
const taker = createServer((stream) => stream.resume()).listen(`${root}/stream.sock`);
const seen = {};
for (const [name, disk] of Object.entries(DISKS)) {
  seen[name] = await migrated(disk);
  console.log(`disk of -${name}: the VM writes to ${seen[name]}`);
}
taker.close();
process.exitCode = seen.drive === 'B' && seen.blockdev === 'A' ? 0 : 1;
JS
in_it "$WORK/root" node "$WORK/try.mjs" "$WORK/root"
