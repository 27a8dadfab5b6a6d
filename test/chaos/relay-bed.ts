/**
 * Rows of the relay: two libvirt hosts and the network between them. The relay freezes at a step of
 * a migration, then a process is killed or the cable is cut. Afterwards:
 *
 *     one        the domain runs on exactly one host
 *     whole      its ticks are consecutive, it was not rebooted, its memory check passes
 *     clean      libvirt has no job left
 *     goes on    the next migration completes
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LibvirtHost } from '../../tools/testbed/libvirt-host.ts';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { RelayProcess } from '../../tools/testbed/relay-process.ts';
import type { CommandEnd } from '../../tools/testbed/testbed.ts';
import { firstGap, logEnd, readTicks, untilTicks } from '../../tools/testbed/ticks.ts';
import { freezeAt, frozenProcess } from '../support/freeze.ts';
import type { Judgement } from './judge.ts';
import type { ChaosRow } from './rows.ts';

const DOMAIN = 'd';
const PORT = 49_300;
const STALL_LIMIT = '2s';
/** Time for which a process is frozen that then continues. */
const FREEZE_MS = 2_000;
const MORE_TICKS = 3;
/** Limit for libvirt to notice that one of its QEMUs has ended. */
const SETTLE_LIMIT_MS = 180_000;
const POLL_MS = 100;

export class RelayBed {
  readonly #pair: LibvirtPair;
  readonly #image: string;
  #relay: RelayProcess | undefined;

  static async start(): Promise<RelayBed> {
    const pair = await LibvirtPair.create();
    try {
      await pair.a.create(pair.xml({ name: DOMAIN }));
      await untilTicks(pair.console(DOMAIN), 0, ({ checks }) => checks.length > 0);
      const image = join(pair.directory, 'a', `${DOMAIN}.save`);
      await pair.a.ask('save', DOMAIN, image);
      return new RelayBed(pair, image);
    } catch (error) {
      pair.dispose();
      throw error;
    }
  }

  private constructor(pair: LibvirtPair, image: string) {
    this.#pair = pair;
    this.#image = image;
  }

  async dispose(): Promise<void> {
    await this.#relay?.kill();
    this.#pair.dispose();
  }

  /** Judges a row. Never rejects: an error makes a red judgement. */
  async judge(row: ChaosRow): Promise<Judgement> {
    const judged = (colour: Judgement['colour'], why = '') => {
      return { row: row.name, colour, why, stoodMs: Number.NaN };
    };
    const pair = this.#pair;
    try {
      const from = logEnd(pair.console(DOMAIN));
      await pair.a.ask('restore', this.#image);
      if (!(await this.#strike(row))) return judged('passed by');
      if (row.victim === 'QEMU is killed') await this.#isNowhere();
      else await this.#promises(from);
      return judged('green');
    } catch (error) {
      return judged('red', String(error));
    } finally {
      await this.#relay?.kill();
      for (const host of [pair.a, pair.b]) await host.virsh(['destroy', DOMAIN]);
    }
  }

  async #strike({ location, victim }: ChaosRow): Promise<boolean> {
    const pair = this.#pair;
    const stopAt = join(pair.directory, 'stop-at');
    const relay = await this.#start(stopAt);
    const processes = () => new Map([[relay.pid, 'relay']]);
    freezeAt({ stopAt, processes }, location);
    const source = pair.a.qemuPid(DOMAIN);
    const ended = this.#migrate();
    const over = ended.then(() => undefined);
    const frozen = await Promise.race([frozenProcess({ stopAt, processes }), over]);
    if (frozen === undefined) return false;
    switch (victim) {
      case 'it is killed':
        await relay.kill();
        break;
      case 'it is frozen':
        await delay(FREEZE_MS);
        break;
      case 'QEMU is killed':
        process.kill(source, 'SIGKILL');
        break;
      case 'the destination is killed':
        process.kill(pair.b.qemuPid(DOMAIN), 'SIGKILL');
        break;
      case 'the cable is cut':
        pair.cut();
        break;
      default:
        throw new Error(`${victim} does not apply to a relay`);
    }
    if (victim !== 'it is killed') process.kill(frozen, 'SIGCONT');
    try {
      const { code, stderr } = await ended;
      if (victim === 'it is frozen' && code !== 0) throw new Error(`it failed: ${stderr}`);
    } finally {
      if (victim === 'the cable is cut') pair.mend();
    }
    return true;
  }

  async #start(stopAt: string): Promise<RelayProcess> {
    const [listen, to] = [`tcp://${this.#pair.addressA}:${PORT}`, this.#target];
    const options = [
      '--listen',
      listen,
      '--to',
      to,
      '--name',
      DOMAIN,
      '--stall-limit',
      STALL_LIMIT,
    ];
    await this.#relay?.kill();
    this.#relay = await RelayProcess.startWith({ UMBRA_STOP_AT: stopAt }, ...options);
    return this.#relay;
  }

  get #target(): string {
    return `tcp://${this.#pair.addressB}:${PORT}`;
  }

  #migrate(): Promise<CommandEnd> {
    const uri = `tcp://${this.#pair.addressA}:${PORT}`;
    const words = ['migrate', '--live', DOMAIN, this.#pair.b.uri, '--migrateuri', uri];
    return this.#pair.a.virsh(words);
  }

  async #promises(from: number): Promise<void> {
    const host = await this.#where();
    await this.#goesOn(from);
    const job = await host.ask('domjobinfo', DOMAIN);
    if (!/^Job type:\s+None/.test(job)) throw new Error(`a job is left: ${job}`);
    if (host === this.#pair.b) return;
    await this.#start('/dev/null');
    const { code, stderr } = await this.#migrate();
    if (code !== 0) throw new Error(`the next migration fails: ${stderr}`);
    await this.#goesOn(from);
  }

  /** @throws Error unless the domain runs on exactly one host */
  async #where(): Promise<LibvirtHost> {
    const hosts = [this.#pair.a, this.#pair.b];
    let states: string[] = [];
    for (const end = performance.now() + SETTLE_LIMIT_MS; ; await delay(POLL_MS)) {
      states = await this.#states();
      const running = hosts.filter((_, index) => states[index] === 'running');
      const [host] = running;
      if (running.length > 1) throw new Error('it runs on both hosts');
      const elsewhere = states.filter((state) => state === '');
      if (host !== undefined && elsewhere.length === 1) return host;
      if (performance.now() > end) throw new Error(`it is: ${states}`);
    }
  }

  /**
   * Waits for the end of a domain whose source was killed: it may be lost, or run at the
   * destination, but no part of it may be left.
   */
  async #isNowhere(): Promise<void> {
    for (const end = performance.now() + SETTLE_LIMIT_MS; ; await delay(POLL_MS)) {
      const states = (await this.#states()).join();
      if (states === ',' || states === ',running') return;
      if (performance.now() > end) throw new Error(`it is: ${states}`);
    }
  }

  #states(): Promise<string[]> {
    return Promise.all(
      [this.#pair.a, this.#pair.b].map(async (host) => {
        const { code, stdout } = await host.virsh(['domstate', DOMAIN]);
        const state = code === 0 ? stdout.trim() : '';
        return state === 'shut off' ? '' : state;
      }),
    );
  }

  async #goesOn(from: number): Promise<void> {
    const log = this.#pair.console(DOMAIN);
    const { numbers, checks } = readTicks(log, from);
    const ticks = await untilTicks(log, from, (now) => {
      return now.numbers.length >= numbers.length + MORE_TICKS && now.checks.length > checks.length;
    });
    if (ticks.names.length !== 1) throw new Error('it was rebooted');
    if (firstGap(ticks) !== undefined) throw new Error(`ticks are missing: ${firstGap(ticks)}`);
    const bad = ticks.checks.find((line) => !line.includes('verified'));
    if (bad !== undefined) throw new Error(`its memory: ${bad}`);
  }
}
