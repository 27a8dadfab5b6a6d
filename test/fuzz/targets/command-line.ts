/**
 * Fuzz target: a VM's command line, one word a line, as read from a process or a manifest.
 * Formatted and parsed again it is the same. It is changed for a restore or a clone, or refused
 * with a code. A restored VM starts stopped and waits for no other state. A clone uses no file or
 * socket in the source's folder.
 */
import { strict as assert } from 'node:assert';
import { posix } from 'node:path';
import { cloneCommandLine } from '../../../proxy/command-line/clone.ts';
import { machineTypeOf } from '../../../proxy/command-line/machine-type.ts';
import { mapObstacle } from '../../../proxy/command-line/map-obstacle.ts';
import { qmpSocketOf } from '../../../proxy/command-line/monitors.ts';
import { formatOptions, parseOptions } from '../../../proxy/command-line/option-list.ts';
import { restoreCommandLine } from '../../../proxy/command-line/restore-line.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { codeOf, type Target } from '../target.ts';

const SOURCE = '/home/demo';
const MACHINE = 'pc-i440fx-7.2';
const OPTIONS = {
  clone: 'twin',
  directory: '/home/twin/vm/n0',
  workingDirectory: '/srv',
  sourceDirectory: SOURCE,
  switched: [`${SOURCE}/vm/n0/net.sock`],
  disconnect: false,
};

export const target: Target = {
  covers: [
    'proxy/command-line/clone.ts',
    'proxy/command-line/clone-network.ts',
    'proxy/command-line/clone-paths.ts',
    'proxy/command-line/machine-type.ts',
    'proxy/command-line/map-obstacle.ts',
    'proxy/command-line/monitors.ts',
    'proxy/command-line/option-list.ts',
    'proxy/command-line/option-value.ts',
    'proxy/command-line/restore-line.ts',
  ],
  inputBytesMax: 4_000,
  words: [
    '\n-S\n',
    '\n-incoming\n',
    '\n-daemonize\n',
    '\n-loadvm\n',
    '\n-machine\n',
    'type=pc',
    ',,',
    ',',
    '\n-qmp\n',
    'unix:',
    ',server=on,wait=off',
    '\n-netdev\n',
    'user,id=n',
    'tap,fd=3',
    'stream,',
    '\n-drive\n',
    'file=',
    'readonly=on',
    '\n-object\n',
    'memory-backend-file,id=pc.ram,mem-path=',
    `${SOURCE}/`,
    '../home/demo/x',
    '{"qom-type":"',
    '"}',
    '\n-chardev\n',
    'socket,path=',
    'fd=',
    'addr.type=unix',
    'addr.path=',
    '\n-device\n',
    'virtio-net-pci,netdev=n',
    '\n--\n',
    '\n-\n',
  ],
  check(input) {
    // argv has no NULs.
    const line = input.toString('utf8').replaceAll('\0', '').split('\n');
    const options = parseOptions(line.slice(1));
    assert.deepEqual(parseOptions(formatOptions(options)), options);
    const qmp = qmpSocketOf(line);
    assert.ok(qmp === undefined || qmp.length > 0);
    mapObstacle({ given: options, fromFiles: [] }, 'pc.ram');
    machineTypeOf(line);
    return `${restored(line)}, ${cloned(line)}`;
  },
};

function restored(line: readonly string[]): string {
  try {
    const again = restoreCommandLine(line, MACHINE);
    assert.equal(again.at(-1), '-S');
    // An unknown option takes the next word for its value; only QEMU knows whether it really does.
    const options = parseOptions(line.slice(1));
    if (options.at(-1)?.value === undefined) return 'restored, maybe';
    // No machine has a property with a comma in its name: QEMU would not have taken that.
    if (options.some(({ name, value }) => /^(machine|M)$/.test(name) && value?.includes(',,'))) {
      return 'restored, maybe';
    }
    const names = parseOptions(again.slice(1)).map(({ name }) => name);
    assert.ok(!names.some((name) => ['incoming', 'daemonize', 'loadvm'].includes(name)));
    assert.equal(machineTypeOf(again), MACHINE);
    assert.deepEqual(restoreCommandLine(again, MACHINE), again);
    return 'restored';
  } catch (error) {
    return codeOf(error, UmbraError);
  }
}

function cloned(line: readonly string[]): string {
  try {
    const { commandLine, paths, network } = cloneCommandLine(line, OPTIONS);
    for (const path of [...paths.values(), ...network])
      assert.ok(isBelow(path, '/home/twin'), path);
    for (const { name, value = '' } of parseOptions(commandLine.slice(1))) {
      if (name === 'append' || /^memory-backend-file,/.test(value)) continue;
      // A doubled comma is part of a path.
      for (const part of value.replaceAll(',,', ';').split(/[,=:"]/)) {
        const path = posix.resolve(OPTIONS.workingDirectory, part);
        assert.ok(!isBelow(path, SOURCE), `-${name} ${value}`);
      }
    }
    return 'cloned';
  } catch (error) {
    return codeOf(error, UmbraError);
  }
}

function isBelow(path: string, folder: string): boolean {
  return `${path}/`.startsWith(`${folder}/`);
}
