import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type ClonedLine,
  type CloneOptions,
  cloneCommandLine,
} from '../../../proxy/command-line/clone.ts';
import { OptionValue } from '../../../proxy/command-line/option-value.ts';
import type { UmbraError } from '../../../proxy/failure/failure.ts';

const test = suite('clone command line');

const TERMS: CloneOptions = {
  clone: 'twin',
  directory: '/run/u/twin/vm/a',
  workingDirectory: '/vm',
  sourceDirectory: '/run/u/demo',
  switched: ['/run/u/demo/vm/a/net.sock'],
  disconnect: false,
};

/** Words after `-nodefaults`, which keeps QEMU's own network card away. */
function clone(words: string | readonly string[], options: Partial<CloneOptions> = {}): ClonedLine {
  const line = typeof words === 'string' ? words.split(' ') : words;
  return cloneCommandLine(['qemu', '-nodefaults', ...line], { ...TERMS, ...options });
}

function after(words: string | readonly string[], options: Partial<CloneOptions> = {}): string {
  return clone(words, options).commandLine.slice(2).join(' ');
}

function failure(words: string | readonly string[], options: Partial<CloneOptions> = {}) {
  try {
    clone(words, options);
  } catch (error) {
    return (error as UmbraError).failure;
  }
  throw new Error(`taken: ${words}`);
}

const S = '/run/u/demo/vm/a';
const C = '/run/u/twin/vm/a';
const ON = 'server=on,wait=off';

const CHANGED: readonly (readonly [before: string, after: string])[] = [
  [`-qmp unix:${S}/qmp.sock,${ON}`, `-qmp unix:${C}/qmp.sock,${ON}`],
  [`-qmp unix:/elsewhere/q.sock,server,nowait`, `-qmp unix:${C}/q.sock,server=on,wait=off`],
  [`-monitor unix:m.sock,${ON}`, `-monitor unix:${C}/m.sock,${ON}`],
  [`-serial mon:unix:${S}/s,${ON}`, `-serial mon:unix:${C}/s,${ON}`],
  [`-serial file:${S}/console.log`, `-serial file:${C}/console.log`],
  [
    '-serial null -parallel none -serial mon:stdio',
    '-serial null -parallel none -serial mon:stdio',
  ],
  [`-chardev socket,id=c,path=${S}/c,${ON}`, `-chardev socket,id=c,path=${C}/c,${ON}`],
  [
    `-chardev file,id=c,path=/log/a,,b,logfile=/log/c`,
    `-chardev file,id=c,path=${C}/a,,b,logfile=${C}/c`,
  ],
  ['-chardev null,id=c -mon chardev=c', '-chardev null,id=c -mon chardev=c'],
  [`-pidfile ${S}/pid -D q.log`, `-pidfile ${C}/pid -D ${C}/q.log`],
  ['-trace enable=a*,file=/t/trace', `-trace enable=a*,file=${C}/trace`],
  ['-trace a*', '-trace a*'],
  ['-audiodev wav,id=w,path=/t/w.wav', `-audiodev wav,id=w,path=${C}/w.wav`],
  ['-object filter-dump,id=f,netdev=n,file=d', `-object filter-dump,id=f,netdev=n,file=${C}/d`],
  ['-name n0', '-name n0-twin'],
  ['-name guest=n0,debug-threads=on', '-name guest=n0-twin,debug-threads=on'],
  ['-vnc none', '-vnc none'],
  ['-vnc unix:/v/vnc.sock', `-vnc unix:${C}/vnc.sock`],
  ['-incoming tcp:0:4444 -m 64', '-m 64'],
  ['-S -incoming defer', '-S'],
  ['-kernel /boot/vmlinuz -initrd rd -uuid 1-2', '-kernel /boot/vmlinuz -initrd rd -uuid 1-2'],
  ['-device virtio-net-pci,netdev=n,mac=52:54:00:0:0:1 -netdev hubport,id=n,hubid=1', ''],
  ['-object memory-backend-file,id=m,mem-path=/x,size=1M,share=off', ''],
  ['-object memory-backend-memfd,id=m,size=1M,share=on', ''],
  ['-cdrom a.iso -drive file=b,readonly=on -drive if=none,id=d', ''],
  ['-drive if=none,id=d,driver=null-co -drive file=null-co://,if=none', ''],
  [
    '-blockdev driver=qcow2,node-name=q,read-only=on,file=f -blockdev file,node-name=f,filename=x',
    '',
  ],
  ['-netdev user,id=n,restrict=on', ''],
  ['-nic none -net none', ''],
];

for (const [before, wanted] of CHANGED) {
  test(`${before.slice(0, 60)}: ${wanted === '' ? 'as it is' : 'changed'}`, () => {
    assert.is(after(before), wanted === '' ? before : wanted);
  });
}

test('only the shadow, mapped privately, is shared with the source cluster', () => {
  const path = '/run/u/demo/shadows/x';
  const ram = `-object memory-backend-file,id=pc.ram,size=1,mem-path=${path},share=off`;
  assert.is(after(ram), ram);
  assert.is(failure(`-object rng-random,id=r,filename=${S}/pipe`).code, 'E_CLONE_COMMAND');
  const other = '-fw_cfg name=opt/x,file=/run/u/demo-2/x';
  assert.is(after(other), other, 'another cluster, whose name begins the same');
  assert.is(after(`-append log=${S}/x`), `-append log=${S}/x`, 'the guest’s words are its own');
});

test('files of one name in two folders get two names; one file gets one name', () => {
  const { commandLine, paths } = clone([
    '-serial',
    'file:/a/log',
    '-serial',
    'file:/b/log',
    '-parallel',
    'file:/a/log',
    '-D',
    '/c/vm.log',
  ]);
  assert.equal(
    commandLine.filter((word) => word.startsWith('file:')),
    [`file:${C}/log`, `file:${C}/2-log`, `file:${C}/log`],
  );
  assert.is(commandLine.at(-1), `${C}/2-vm.log`, 'vm.log is Umbra’s');
  assert.is(paths.get('/b/log'), `${C}/2-log`);
});

const STREAM = `stream,id=n,server=on,addr.type=unix,addr.path=${S}/net.sock`;

test('a card on the source’s switch is connected to the clone’s', () => {
  const { commandLine, network, unplugged } = clone(['-netdev', STREAM]);
  assert.is(commandLine.at(-1), STREAM.replace(S, C));
  assert.equal(network, [`${C}/net.sock`]);
  assert.equal(unplugged, []);
  const json = {
    type: 'stream',
    id: 'n',
    server: true,
    addr: { type: 'unix', path: `${S}/net.sock` },
  };
  const other = clone(['-netdev', JSON.stringify(json)]);
  assert.equal(JSON.parse(other.commandLine.at(-1) ?? ''), {
    ...json,
    addr: { type: 'unix', path: `${C}/net.sock` },
  });
  assert.equal(other.network, [`${C}/net.sock`]);
});

test('a socket of another switch becomes the clone’s own, and no process dials it', () => {
  const elsewhere = STREAM.replace(S, '/elsewhere');
  const { network, commandLine, unplugged } = clone(['-netdev', elsewhere]);
  assert.equal(network, []);
  assert.equal(unplugged, [`-netdev ${elsewhere}`], 'and the operator is told');
  assert.match(commandLine.at(-1) ?? '', `${C}/net.sock`);
});

/** Backends the first VM is on: what takes their place. Tried on QEMU 7.2.22 and 10.0.2. */
const UNPLUGGED: readonly (readonly [before: string, after: string])[] = [
  ['-netdev user,id=n', '-netdev user,id=n,restrict=on'],
  [
    '-netdev user,id=n,net=10.1.0.0/16,hostfwd=tcp::22-:22,hostfwd=tcp::80-:80,restrict=off',
    '-netdev user,id=n,net=10.1.0.0/16,restrict=on',
  ],
  ['-netdev user,id=n,restrict=on,hostfwd=tcp::22-:22', '-netdev user,id=n,restrict=on'],
  [
    '-netdev tap,id=n,ifname=tap0,vhost=on,queues=2,script=/etc/up',
    '-netdev tap,id=n,vhost=on,queues=2,script=no,downscript=no',
  ],
  ['-netdev bridge,id=n,br=br0', '-netdev tap,id=n,script=no,downscript=no'],
  ['-netdev socket,id=n,mcast=230.0.0.1:1234', '-netdev hubport,id=n,hubid=7500'],
  [
    '-netdev dgram,id=n,local.type=unix,local.path=/a ' +
      '-netdev stream,id=m,addr.type=inet,addr.host=h',
    '-netdev hubport,id=n,hubid=7500 -netdev hubport,id=m,hubid=7501',
  ],
  ['-nic user,model=e1000,mac=1:2', '-nic user,model=e1000,mac=1:2,restrict=on'],
  ['-nic socket,model=e1000,listen=:1', '-nic hubport,model=e1000,hubid=7500'],
  ['-net nic -net user', '-net nic -net user,restrict=on'],
  [
    '-netdev {"type":"user","id":"n","hostfwd":[{"str":"tcp::22-:22"}]}',
    '-netdev {"type":"user","id":"n","restrict":true}',
  ],
  [
    '-netdev {"type":"socket","id":"n","listen":":1"}',
    '-netdev {"type":"hubport","id":"n","hubid":7500}',
  ],
];

for (const [before, wanted] of UNPLUGGED) {
  test(`${before.slice(0, 50)}: refused by name, or unplugged`, () => {
    const { code, message, hint } = failure(before);
    assert.is(code, 'E_CLONE_NETWORK');
    assert.match(message, /^-(netdev|nic|net) /);
    assert.match(hint ?? '', '--disconnect');
    const cloned = clone(before, { disconnect: true });
    assert.is(cloned.commandLine.slice(2).join(' '), wanted);
    assert.ok(cloned.unplugged.length > 0);
  });
}

test('the card QEMU adds by default is on a network, too', () => {
  const line = ['qemu', '-m', '64'];
  assert.throws(
    () => cloneCommandLine(line, TERMS),
    (error: UmbraError) => error.code === 'E_CLONE_NETWORK',
  );
  assert.equal(cloneCommandLine(line, { ...TERMS, disconnect: true }).commandLine, [
    ...line,
    '-nic',
    'user,restrict=on',
  ]);
});

const REFUSED: readonly (readonly [code: string, words: string])[] = [
  ['E_CLONE_NETWORK', '-netdev vhost-user,id=n,chardev=c'],
  ['E_CLONE_NETWORK', '-net socket,listen=:1'],
  ['E_CLONE_DISK', '-drive file=a.img'],
  ['E_CLONE_DISK', '-drive if=pflash,file=vars.fd'],
  ['E_CLONE_DISK', '-drive driver=qcow2,file.driver=file,file.filename=a,if=none'],
  ['E_CLONE_DISK', '-drive file=a.img,readonly=off'],
  ['E_CLONE_DISK', '-hda a.img'],
  ['E_CLONE_DISK', '-m 64 a.img'],
  ['E_CLONE_DISK', '-blockdev driver=file,node-name=f,filename=x'],
  ['E_CLONE_DISK', '-blockdev {"driver":"qcow2","node-name":"q","file":{"driver":"file"}}'],
  ['E_CLONE_DISK', '-virtfs local,path=/x,mount_tag=x,security_model=none'],
  ['E_CLONE_COMMAND', '-serial tcp:localhost:1,server'],
  ['E_CLONE_COMMAND', '-serial /dev/ttyS0'],
  ['E_CLONE_COMMAND', '-qmp unix:/peer.sock'],
  ['E_CLONE_COMMAND', '-chardev socket,id=c,path=/peer.sock'],
  ['E_CLONE_COMMAND', '-chardev socket,id=c,host=h,port=1,server=on'],
  ['E_CLONE_COMMAND', '-chardev pipe,id=c,path=/p'],
  ['E_CLONE_COMMAND', '-s'],
  ['E_CLONE_COMMAND', '-gdb tcp::1234'],
  ['E_CLONE_COMMAND', '-vnc :1'],
  ['E_CLONE_COMMAND', '-spice port=5900'],
  ['E_CLONE_COMMAND', '-display vnc=:1'],
  ['E_CLONE_COMMAND', '-readconfig vm.cfg'],
  ['E_CLONE_COMMAND', '-device vhost-vsock-pci,guest-cid=3'],
  ['E_CLONE_COMMAND', '-device vfio-pci,host=01:00.0'],
  ['E_CLONE_COMMAND', '-device {"driver":"vhost-vsock-pci","guest-cid":3}'],
  ['E_CLONE_COMMAND', '-object memory-backend-file,id=m,mem-path=/x,size=1M,share=on'],
  ['E_CLONE_COMMAND', '-object {"qom-type":"memory-backend-file","id":"m","share":true}'],
  ['E_CLONE_COMMAND', `-fw_cfg name=opt/x,file=${S}/x`],
  ['E_CLONE_COMMAND', '-fw_cfg file=/run/u/demo,name=opt/x'],
];

for (const [code, words] of REFUSED) {
  test(`refused, --disconnect or not: ${words}`, () => {
    for (const disconnect of [false, true]) {
      const found = failure(words, { disconnect });
      assert.is(found.code, code);
      assert.ok((found.hint ?? '').length > 10, 'it says what to do');
    }
  });
}

test('a socket’s path must fit', () => {
  const { code, message } = failure(`-qmp unix:${S}/q.sock,${ON}`, {
    directory: `/${'x'.repeat(101)}`,
  });
  assert.is(code, 'E_CLONE_COMMAND');
  assert.match(message, '109 bytes');
});

test('an option’s value is read and changed in either form', () => {
  const list = new OptionValue('socket,id=c,server,nowait,path=a,,b', 'backend');
  assert.equal(list.keys, ['backend', 'id', 'server', 'wait', 'path']);
  assert.is(list.get('path'), 'a,b');
  assert.ok(list.isOn('server') && !list.isOn('wait') && !list.isOn('telnet'));
  list.delete('id');
  list.set('x.y', '1');
  assert.is(list.format(), 'socket,server=on,wait=off,path=a,,b,x.y=1');
  const json = new OptionValue('{"a":{"b":1,"c":[1]},"d":false}', 'a');
  assert.equal(json.keys, ['a.b', 'a.c', 'd']);
  assert.is(json.get('a.b'), '1');
  assert.is(json.get('d'), 'off');
  json.set('a.b', '/x');
  json.set('e.f', 'on');
  json.delete('d');
  assert.is(json.format(), '{"a":{"b":"/x","c":[1]},"e":{"f":true}}');
});

test.run();
