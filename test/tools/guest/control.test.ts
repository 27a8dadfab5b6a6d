import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { GuestControl } from '../../../tools/guest/control.ts';
import { GuestError, type GuestErrorCode } from '../../../tools/guest/errors.ts';
import { FakeGuest, type FakeRequest } from '../../support/guest-fake.ts';
import { eventually, withFolder } from '../../support/switch-peer.ts';

async function withGuest(
  onRequest: (request: FakeRequest, guest: FakeGuest) => void,
  use: (control: GuestControl, guest: FakeGuest, path: string) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const path = join(folder, 'control.sock');
    const guest = await FakeGuest.listen(path, onRequest);
    const control = await GuestControl.connect(path);
    try {
      await use(control, guest, path);
    } finally {
      control.close();
      await guest.close();
    }
  });
}

async function rejectsWith(code: GuestErrorCode, promise: Promise<unknown>): Promise<void> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, GuestError);
    assert.is((error as GuestError).code, code);
    return;
  }
  assert.unreachable(`expected ${code}`);
}

function echo(request: FakeRequest, guest: FakeGuest): void {
  if (request.kind !== 'run') return;
  guest.output(request.id, request.command);
  guest.exit(request.id, 0);
}

test('gives back output and exit code', async () => {
  await withGuest(
    ({ kind, id }, guest) => {
      if (kind !== 'run') return;
      guest.output(id, 'one\n::rc 1 0\nno newline at the en');
      guest.output(id, 'd: ü');
      guest.exit(id, 3);
    },
    async (control) => {
      const result = await control.run('anything');
      assert.equal(result, { output: 'one\n::rc 1 0\nno newline at the end: ü', exitCode: 3 });
    },
  );
});

test('a character cut in two by the guest comes out whole', async () => {
  await withGuest(
    ({ kind, id }, guest) => {
      if (kind !== 'run') return;
      for (const byte of Buffer.from('ü')) {
        guest.send(`::out ${id} ${Buffer.from([byte]).toString('base64')}\n`);
      }
      guest.exit(id, 0);
    },
    async (control) => assert.is((await control.run('x')).output, 'ü'),
  );
});

test('several commands at once, answered in any order', async () => {
  const held: FakeRequest[] = [];
  await withGuest(
    (request, guest) => {
      held.push(request);
      if (held.length === 3) for (const one of held.reverse()) echo(one, guest);
    },
    async (control) => {
      const results = await Promise.all(['a', 'b', 'c'].map((text) => control.run(text)));
      assert.equal(
        results.map(({ output }) => output),
        ['a', 'b', 'c'],
      );
    },
  );
});

test("a predecessor's leftovers do not confuse it", async () => {
  await withGuest(
    (request, guest) => {
      guest.send('Zvbw==\n::out ffff-0 c3RhbGU=\n::rc ffff-0 9\n');
      echo(request, guest);
    },
    async (control) => {
      assert.equal(await control.run('mine'), { output: 'mine', exitCode: 0 });
    },
  );
});

test('two clients never use the same id', async () => {
  await withGuest(echo, async (control, guest, path) => {
    await control.run('a');
    control.close();
    const second = await GuestControl.connect(path);
    await second.run('a');
    second.close();
    const [first, other] = guest.requests;
    assert.is.not(first?.id, other?.id);
  });
});

test('a command that takes too long is killed', async () => {
  await withGuest(
    () => {},
    async (control, guest) => {
      await rejectsWith('GUEST_TIMEOUT', control.run('sleep 1000', { timeoutMs: 30 }));
      await eventually(() => guest.requests.at(-1)?.kind === 'kill');
      assert.is(guest.requests[1]?.id, guest.requests[0]?.id);
    },
  );
});

test("the caller's signal kills it too", async () => {
  await withGuest(
    () => {},
    async (control, guest) => {
      const abort = new AbortController();
      const running = control.run('sleep 1000', { signal: abort.signal });
      await eventually(() => guest.requests.length === 1);
      abort.abort(new Error('enough'));
      await rejectsWith('GUEST_ABORTED', running);
      await eventually(() => guest.requests.at(-1)?.kind === 'kill');
      await rejectsWith('GUEST_ABORTED', control.run('true', { signal: abort.signal }));
      await rejectsWith('GUEST_ABORTED', control.waitBoot({ signal: abort.signal }));
    },
  );
});

test('endless output is cut off', async () => {
  await withGuest(
    ({ kind, id }, guest) => {
      if (kind !== 'run') return;
      for (let i = 0; i < 9 * 1024; i++) guest.output(id, 'y'.repeat(1024));
    },
    async (control, guest) => {
      await rejectsWith('GUEST_OUTPUT_LIMIT', control.run('yes'));
      await eventually(() => guest.requests.at(-1)?.kind === 'kill');
    },
  );
});

test('a guest that dies fails all that waits, and all that comes later', async () => {
  await withGuest(
    (request, guest) => {
      if (request.command === 'crash') guest.hangUp();
    },
    async (control) => {
      const waiting = rejectsWith('GUEST_CLOSED', control.run('wait'));
      const booting = rejectsWith('GUEST_CLOSED', control.waitBoot());
      await rejectsWith('GUEST_CLOSED', control.run('crash'));
      await Promise.all([waiting, booting]);
      await rejectsWith('GUEST_CLOSED', control.run('true'));
      await rejectsWith('GUEST_CLOSED', control.waitBoot());
    },
  );
});

test('a refused command says why', async () => {
  await withGuest(
    ({ id }, guest) => guest.send(`::no ${id} too many commands at once\n`),
    async (control) => {
      await rejectsWith('GUEST_REFUSED', control.run('true'));
    },
  );
});

test('waitBoot asks until the guest listens', async () => {
  let asked = 0;
  await withGuest(
    (request, guest) => {
      if (request.kind === 'hello' && ++asked === 3) guest.send('::ready\n');
    },
    async (control) => {
      await control.waitBoot({ timeoutMs: 5_000 });
      assert.is(asked, 3);
    },
  );
});

test('waitBoot gives up in time', async () => {
  await withGuest(
    () => {},
    (control) => rejectsWith('GUEST_TIMEOUT', control.waitBoot({ timeoutMs: 50 })),
  );
});

test('connect waits for the socket, but not for ever', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'late.sock');
    await rejectsWith('GUEST_UNREACHABLE', GuestControl.connect(path, { timeoutMs: 60 }));
    const connecting = GuestControl.connect(path, { timeoutMs: 5_000 });
    const guest = await FakeGuest.listen(path, echo);
    const control = await connecting;
    assert.is((await control.run('hi')).output, 'hi');
    control.close();
    await guest.close();
  });
});

test.run();
