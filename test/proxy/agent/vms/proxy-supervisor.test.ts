/** A VM whose proxies end, with scripted proxies and time that passes at once. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { MemberProxy } from '../../../../proxy/agent/vms/member-proxy.ts';
import { ProxySupervisor } from '../../../../proxy/agent/vms/proxy-supervisor.ts';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import type { MemberConfig } from '../../../../proxy/protocol/cluster.ts';
import type { PrepareCommand } from '../../../../proxy/protocol/member.ts';

const test = suite('proxy keeper');
const CONFIG = { name: 'a', qmp: '/x', directory: '/d' } as MemberConfig;
/** More than is ever done in a test. */
const TURNS = 200;

/** The reports to the round and the repairs of the VM, in order. */
let told: string[] = [];
/** Proxies that were started. */
let proxies: FakeProxy[] = [];
let pauses: number[] = [];
/** The pause at which time stands. */
let stopsAt = 0;
let onPause: () => void = () => {};
/** The number of proxies that will fail to start. */
let unstartable = 0;
let keeper: ProxySupervisor;

class FakeProxy {
  isGone = false;
  readonly name = `P${proxies.length + 1}`;
  readonly commands: string[] = [];
  readonly exited: Promise<void>;
  #exit: () => void = () => {};
  /** Rescues it was asked for and has not answered. */
  #asked: { done(): void; refused(error: UmbraError): void }[] = [];
  /** How many it was asked for. */
  rescues = 0;
  /** The limit of the last request, milliseconds. */
  limitMs = 0;

  constructor() {
    this.exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
  }

  onNotice(): void {}

  command({ type }: { type: string }): void {
    this.commands.push(type);
  }

  request(_request: object, limitMs: number): Promise<void> {
    this.rescues++;
    this.limitMs = limitMs;
    if (this.isGone) return Promise.reject(gone());
    return new Promise((done, refused) => this.#asked.push({ done, refused }));
  }

  async repaired(): Promise<void> {
    told.push('put right');
    this.#asked.shift()?.done();
    await settled();
  }

  async refuses(): Promise<void> {
    this.#asked.shift()?.refused(new UmbraError({ code: 'E_QMP_SILENT', message: 'it hangs' }));
    await settled();
  }

  async dies(): Promise<void> {
    this.isGone = true;
    for (const { refused } of this.#asked.splice(0)) refused(gone());
    this.#exit();
    await settled();
  }

  async close(): Promise<void> {
    if (!this.isGone) await this.dies();
  }
}

function gone(): UmbraError {
  return new UmbraError({ code: 'E_PROXY_GONE', message: 'it ended' });
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await Promise.resolve();
}

function proxy(nth: number): FakeProxy {
  const found = proxies[nth - 1];
  if (found === undefined) throw new Error(`P${nth} was not started`);
  return found;
}

/** A member in a round, its first proxy killed at the barrier. */
test.before.each(async () => {
  [told, proxies, pauses, unstartable, stopsAt, onPause] = [[], [], [], 0, 0, () => {}];
  const watcher = {
    onNotice: ({ round, ...rest }: { round: string }) => {
      told.push(`${round} ${'report' in rest ? rest.report : ''}`);
    },
    onLeft: () => {},
  };
  const services = {
    startProxy: async () => {
      if (unstartable-- > 0) throw gone();
      const started = new FakeProxy();
      proxies.push(started);
      return started as unknown as MemberProxy;
    },
    pause: async (ms: number, signal?: AbortSignal) => {
      onPause();
      if (pauses.push(ms) !== stopsAt) return;
      await new Promise<void>((resolve) => {
        signal?.addEventListener('abort', () => resolve());
      });
    },
  };
  keeper = new ProxySupervisor(CONFIG, watcher, pino({ level: 'silent' }), services);
  const started = keeper.start();
  await settled();
  await proxy(1).repaired();
  await started;
  told = [];
  keeper.prepare({ type: 'prepare', round: 'r1' } as PrepareCommand);
  assert.equal(proxy(1).commands, ['prepare']);
});

test('the round is informed when another proxy has repaired the VM', async () => {
  await proxy(1).dies();
  assert.equal(told, []);
  await proxy(2).repaired();
  assert.equal(told, ['put right', 'r1 gone']);
});

test('a repair may take as long as saving all memory of a large VM', async () => {
  await proxy(1).dies();
  assert.ok(proxy(2).limitMs > 3_600_000);
});

test('the repairing proxy ends, too: the next one repairs, then tells the round', async () => {
  await proxy(1).dies();
  await proxy(2).dies();
  assert.equal(told, []);
  await proxy(3).repaired();
  assert.equal(told, ['put right', 'r1 gone']);
  assert.is(proxy(2).rescues, 1, 'a dead one was asked again');
});

test('after five failed starts in a row the round learns that its VM may be stopped', async () => {
  unstartable = 5;
  stopsAt = 5;
  await proxy(1).dies();
  assert.equal(told, ['r1 gone']);
  assert.throws(
    () => keeper.requireProxy(),
    ({ code }: UmbraError) => code === 'E_PROXY_GONE',
  );
});

test('starts are retried, ever less often, until the host starts a process', async () => {
  unstartable = 11;
  await proxy(1).dies();
  const [second, minute] = [1000, 60_000];
  const doubled = [2, 4, 8, 16, 32].map((times) => times * second);
  assert.equal(pauses, [...Array(5).fill(second), ...doubled, minute]);
  await proxy(2).repaired();
  assert.equal(told, ['r1 gone', 'put right']);
  assert.is(keeper.requireProxy() as unknown, proxy(2));
});

test('closed during a pause, it neither waits nor tries again', async () => {
  unstartable = 100;
  stopsAt = 8;
  await proxy(1).dies();
  await keeper.close();
  assert.is(unstartable, 92);
});

test('an abort is not answered before the VM is repaired', async () => {
  await proxy(1).dies();
  keeper.command('r1', 'abort');
  assert.equal(proxy(2).commands, []);
  await proxy(2).repaired();
  assert.equal(told, ['put right', 'r1 gone']);
});

test('a proxy that cannot repair the VM tells the round, and tries again', async () => {
  await proxy(1).dies();
  await proxy(2).refuses();
  assert.equal(told, ['r1 gone']);
  assert.is(proxy(2).rescues, 2);
  await proxy(2).repaired();
  assert.equal(told, ['r1 gone', 'put right']);
});

test('a retried repair does not touch a round that has begun since', async () => {
  await proxy(1).dies();
  onPause = () => keeper.prepare({ type: 'prepare', round: 'r2' } as PrepareCommand);
  await proxy(2).refuses();
  assert.is(proxy(2).rescues, 1);
  assert.equal(told, ['r1 gone']);
});

test('closed in a round, it ends when the VM is repaired, and leaves no proxy', async () => {
  await proxy(1).dies();
  const closed = keeper.close(); // takes the proxy that puts the VM right with it: another looks
  await settled();
  await proxy(3).repaired();
  await closed;
  assert.equal(told, ['put right', 'r1 gone']);
  assert.ok(proxies.every(({ isGone }) => isGone));
  assert.is(proxies.length, 3);
});

test.run();
