import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { programPath } from '../../../proxy/host/program.ts';
import { QUEUE_BYTES_MAX } from '../../../proxy/switch/port.ts';
import { Switch } from '../../../proxy/switch/switch.ts';
import { type Bundled, bundled } from '../../support/bundled.ts';
import { suite } from '../../support/suite.ts';
import { eventually, SwitchPeer, wireFrame, withFolder } from '../../support/switch-peer.ts';

const test = suite('switch');
let program: Bundled;

test.before(async () => {
  program = await bundled(programPath('proxy/switch/main'));
});
test.after(() => program.remove());

/** Runs a callback with a running switch that has `count` guests. */
async function withGuests(
  count: number,
  use: (ethernet: Switch, guests: SwitchPeer[]) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const guests = Array.from(
      { length: count },
      (_, i) => new SwitchPeer(join(folder, `${i}.sock`)),
    );
    const ethernet = new Switch(guests.map(({ path }) => path));
    try {
      await Promise.all(guests.map((guest) => guest.listen()));
      ethernet.start();
      await eventually(() => ethernet.stats.every(({ connected }) => connected));
      await use(ethernet, guests);
    } finally {
      ethernet.close();
      await Promise.all(guests.map((guest) => guest.kill()));
    }
  });
}

function guestAt(guests: SwitchPeer[], index: number): SwitchPeer {
  const guest = guests[index];
  if (guest === undefined) throw new Error(`no guest ${index}`);
  return guest;
}

test('carries frames unchanged to their destinations', async () => {
  await withGuests(3, async (_, guests) => {
    const [a, b, c] = [guestAt(guests, 0), guestAt(guests, 1), guestAt(guests, 2)];
    a.send(wireFrame(0xff, 1, 'where is 2?'));
    await eventually(() => b.frames.length === 1 && c.frames.length === 1);
    b.send(wireFrame(1, 2, 'me'));
    await eventually(() => a.frames.length === 1);
    a.send(wireFrame(2, 1, 'hello'));
    await eventually(() => b.frames.length === 2);
    assert.equal(b.frames[1], wireFrame(2, 1, 'hello'));
    assert.is(c.frames.length, 1);
  });
});

test('a burst arrives in order, however it is cut', async () => {
  await withGuests(2, async (_, guests) => {
    const [a, b] = [guestAt(guests, 0), guestAt(guests, 1)];
    const burst = Array.from({ length: 200 }, (_, i) => wireFrame(2, 1, `${i}`.repeat(i % 7)));
    const bytes = Buffer.concat(burst);
    for (let at = 0; at < bytes.length; at += 37) a.send(bytes.subarray(at, at + 37));
    await eventually(() => b.frames.length === burst.length);
    assert.equal(Buffer.concat(b.frames), bytes);
  });
});

test('a guest that was killed and restarted is dialled again', async () => {
  await withGuests(2, async (ethernet, guests) => {
    const [a, b] = [guestAt(guests, 0), guestAt(guests, 1)];
    await b.kill();
    await eventually(() => ethernet.stats[1]?.connected === false);
    a.send(wireFrame(2, 1, 'lost'));
    await eventually(() => (ethernet.stats[1]?.framesDropped ?? 0) === 1);
    await b.listen();
    await eventually(() => ethernet.stats[1]?.connects === 2);
    a.send(wireFrame(2, 1, 'found'));
    await eventually(() => b.frames.length === 1);
    assert.equal(b.frames[0], wireFrame(2, 1, 'found'));
  });
});

test('half a frame before a crash does not spoil the next connection', async () => {
  await withGuests(2, async (ethernet, guests) => {
    const [a, b] = [guestAt(guests, 0), guestAt(guests, 1)];
    a.send(wireFrame(2, 1, 'half').subarray(0, 9));
    await a.kill();
    await a.listen();
    await eventually(() => ethernet.stats[0]?.connects === 2);
    a.send(wireFrame(2, 1, 'whole'));
    await eventually(() => b.frames.length === 1);
    assert.equal(b.frames[0], wireFrame(2, 1, 'whole'));
  });
});

test('a stream out of step is dropped and dialled anew', async () => {
  await withGuests(2, async (ethernet, guests) => {
    guestAt(guests, 0).send(Buffer.alloc(64, 0xff));
    await eventually(() => ethernet.stats[0]?.connects === 2);
    assert.is(ethernet.stats[1]?.framesOut, 0);
    assert.is(ethernet.stats[1]?.connects, 1);
  });
});

test('frames for a stopped guest are bounded, dropped whole, and delay no other', async () => {
  await withGuests(3, async (ethernet, guests) => {
    const [a, b, c] = [guestAt(guests, 0), guestAt(guests, 1), guestAt(guests, 2)];
    b.pause();
    const payload = 'x'.repeat(1400);
    const count = Math.ceil((8 * QUEUE_BYTES_MAX) / 1400);
    for (let i = 0; i < count; i++) a.send(wireFrame(0xff, 1, `${i} ${payload}`));
    await eventually(() => c.frames.length === count, 10_000);
    const stopped = ethernet.stats[1];
    assert.ok((stopped?.framesDropped ?? 0) > 0, 'nothing was dropped');
    assert.is((stopped?.framesDropped ?? 0) + (stopped?.framesOut ?? 0), count);
    b.resume();
    await eventually(() => b.frames.length === stopped?.framesOut);
    for (const frame of b.frames) assert.is(frame.readUInt32BE(), frame.length - 4);
    a.send(wireFrame(0xff, 1, 'after'));
    await eventually(() => b.frames.at(-1)?.equals(wireFrame(0xff, 1, 'after')) === true);
  });
});

test('after close() no guest is dialled any more', async () => {
  await withFolder(async (folder) => {
    const guest = new SwitchPeer(join(folder, 'late.sock'));
    const ethernet = new Switch([guest.path]);
    ethernet.start();
    await new Promise((resolve) => setTimeout(resolve, 30));
    ethernet.close();
    await guest.listen();
    try {
      // Twice the longest pause between two attempts.
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert.is(ethernet.stats[0]?.connects, 0);
    } finally {
      await guest.kill();
    }
  });
});

test('the program joins guests, and ends on SIGTERM or when its folder goes', async () => {
  await withFolder(async (folder) => {
    for (const ending of ['SIGTERM', 'folder'] as const) {
      const runtime = join(folder, ending);
      mkdirSync(runtime);
      const guest = new SwitchPeer(join(runtime, 'net.sock'));
      await guest.listen();
      const child = spawn(
        process.execPath,
        [program.path, '--port', guest.path, '--until-gone', runtime],
        { stdio: 'ignore' },
      );
      try {
        await guest.connected();
        const exit = once(child, 'exit');
        if (ending === 'SIGTERM') child.kill('SIGTERM');
        else rmSync(runtime, { recursive: true });
        const [code] = await exit;
        assert.is(code, 0, ending);
      } finally {
        child.kill('SIGKILL');
        await guest.kill();
      }
    }
  });
});

test('the program refuses a command line without ports', async () => {
  const child = spawn(process.execPath, [program.path], { stdio: 'ignore' });
  const [code] = await once(child, 'exit');
  assert.is(code, 2);
});

test.run();
