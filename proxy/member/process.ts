/**
 * The proxy of one member, as a process of its own: a fault in one stream takes down one proxy, and
 * members share the machine's cores. Its parent is the agent; they speak messages.ts over IPC.
 *
 * When the parent goes, or falls silent in a round, the proxy is on its own: it ends the round for
 * its member (the VM runs again), and leaves.
 */
import { mkdirSync } from 'node:fs';
import { pino } from 'pino';
import { MonitorBridge } from '../../qmp/libvirt/index.ts';
import { toFailure } from '../failure/failure.ts';
import type {
  FromProxy,
  MemberLocation,
  PrepareCommand,
  RoundCommand,
  ToProxy,
} from '../protocol/member.ts';
import { Capture } from './capture/capture.ts';
import { joinHugePages, type SplitMemory } from './capture/huge-pages.ts';
import { monitorSockets } from './domain-monitors.ts';
import { Requests } from './requests.ts';

class ProxyProcess {
  readonly #location: MemberLocation;
  readonly #requests: Requests;
  readonly #log;
  #capture: Capture | undefined;
  #silence: NodeJS.Timeout | undefined;
  #silenceMs = 0;
  #underWay = 0;
  #leaving = false;
  #joining = new AbortController();

  constructor(location: MemberLocation) {
    this.#location = location;
    this.#requests = new Requests(location);
    this.#log = pino({ level: process.env.UMBRA_LOG ?? 'info' }).child({ member: location.member });
  }

  receive(message: ToProxy): void {
    if (message.kind === 'command') this.#command(message.command);
    if (message.kind === 'request') this.#request(message);
  }

  /** The parent is gone, or we are told to go: put the VM right and leave. */
  leave(why: string): void {
    this.#leaving = true;
    this.#requests.close();
    if (this.#capture !== undefined) {
      this.#log.warn({ why }, 'leaving in a round');
      this.#capture.handle({ type: 'orphaned' });
    }
    this.#leaveWhenDone();
  }

  #command(command: RoundCommand): void {
    if (this.#capture !== undefined) this.#watchSilence();
    if (command.type === 'alive') {
      send({ kind: 'alive' });
      return;
    }
    if (command.type === 'prepare') this.#prepare(command);
    else if (this.#capture?.round === command.round) direct(this.#capture, command.type);
    else if (command.type === 'abort') this.#reportIdle(command.round);
  }

  #prepare(command: PrepareCommand): void {
    this.#requests.close();
    this.#joining.abort();
    this.#silenceMs = command.silenceMs;
    this.#capture = new Capture(
      this.#location,
      command,
      (notice) => send({ kind: 'notice', notice }),
      (how) => this.#over(how),
      this.#log,
    );
    this.#watchSilence();
    this.#capture.handle({ type: 'prepare' });
  }

  #watchSilence(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#log.warn({ silenceMs: this.#silenceMs }, 'the coordinator is silent');
      this.#capture?.handle({ type: 'orphaned' });
    }, this.#silenceMs);
  }

  #over(how: 'repaired' | 'unrepaired'): void {
    clearTimeout(this.#silence);
    const split = this.#capture?.split;
    this.#capture = undefined;
    // The agent sees us go, and has another proxy try: the journal is still there.
    if (how === 'unrepaired') process.exit(1);
    this.#leaveWhenDone();
    if (split !== undefined) void this.#join(split);
  }

  /** What a capture has split; until the next begins. It only makes things quicker. */
  async #join(split: SplitMemory): Promise<void> {
    this.#joining = new AbortController();
    const startedAt = performance.now();
    try {
      const joined = await joinHugePages(split, this.#joining.signal);
      this.#log.info({ ...joined, ms: performance.now() - startedAt }, 'huge pages joined');
    } catch (error) {
      const failure = toFailure(error, { member: this.#location.member });
      this.#log.warn({ failure }, 'huge pages stay split: the next cut takes longer');
    }
  }

  #leaveWhenDone(): void {
    if (this.#leaving && this.#capture === undefined && this.#underWay === 0) process.exit(0);
  }

  /** An abort for a round this proxy knows nothing of (it was started anew) is done already. */
  #reportIdle(round: string): void {
    const notice = { type: 'report', round, report: 'aborted', facts: {} } as const;
    send({ kind: 'notice', notice });
  }

  #request({ id, request }: ToProxy & { kind: 'request' }): void {
    const { member } = this.#location;
    this.#underWay++;
    this.#requests
      .answer(request)
      .then(
        (result) => send({ kind: 'reply', id, result }),
        (error: unknown) => {
          const failure = toFailure(error, { member, where: request.type });
          send({ kind: 'refusal', id, failure });
        },
      )
      .finally(() => {
        this.#underWay--;
        this.#leaveWhenDone();
      });
  }
}

function direct(capture: Capture, type: Exclude<RoundCommand['type'], 'prepare' | 'alive'>): void {
  if (type === 'flow' || type === 'hold') capture.slot(type === 'flow');
  else if (type === 'close-in') capture.closeIn();
  else capture.handle({ type });
}

function send(message: FromProxy): void {
  // Without a parent nobody listens; `disconnect` says so, and orphan() acts.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

let proxy: ProxyProcess | undefined;
/** What comes waits until the monitor of a domain can be asked. */
let ready: Promise<void> = Promise.resolve();

process.on('message', (message: ToProxy) => {
  if (message.kind === 'place') {
    proxy ??= new ProxyProcess(message.place);
    ready = openBridge(message.place);
  } else void ready.then(() => proxy?.receive(message));
});

async function openBridge({ libvirt, qmp, directory }: MemberLocation): Promise<void> {
  if (libvirt === undefined) return;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const sockets = () => monitorSockets(directory);
  const bridge = await MonitorBridge.open({ ...libvirt, path: qmp, sockets });
  process.once('exit', () => bridge.close());
}

process.on('disconnect', () => leave('the coordinator is gone'));
// A service manager ends us all at once: a VM that stands must not be left standing.
for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => leave(signal));
// The terminal's Ctrl-C reaches the whole process group; the parent decides what to do about it.
process.on('SIGINT', () => {});
send({ kind: 'ready' });

function leave(why: string): void {
  if (proxy === undefined) process.exit(0);
  proxy.leave(why);
}
