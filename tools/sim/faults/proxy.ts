/**
 * A member's proxy: the real session machine, enacted on a modelled QEMU that has the traps of a
 * real one. Its journal outlives it; nothing else does.
 */

import type { MemberCommand } from '../../../proxy/coordinator/rounds/round.ts';
import {
  IDLE,
  LIVE,
  NEW_SESSION,
  SEALED,
  type Session,
  type SessionAction,
  type SessionEvent,
  step,
  UNDO_SHARE,
  UNDOING,
} from '../../../proxy/member/capture/session.ts';
import { commit, knows, pend, UNKNOWN } from '../../../proxy/member/tracking/lineage.ts';
import type { SessionMilestone } from '../../../proxy/protocol/member.ts';
import type { Memory } from './guest.ts';
import { PAGES } from './guest.ts';
import { ModelledProcess } from './process.ts';
import {
  DEADLINE_MS,
  type ModelledJournal,
  type ModelledLedger,
  type Seat,
  SILENCE_MS,
} from './terms.ts';
import type { World } from './world.ts';

const ADMIT_MS = 15;
const OPEN_MS = 10;
const STOP_MS = 2;
const DRAIN_MS = 12;
const SAVE_MS = 30;
const RESUME_MS = 1.5;
const SEAL_MS = 10;
const UNDO_MS = 20;
const RETRY_MS = 2;
const CLEAR_MS = 1;
/** QEMU's events and answers take so long, milliseconds. */
const MONITOR_MS = 0.2;

export class ModelledProxy {
  readonly process: ModelledProcess;
  readonly #world: World;
  readonly #seat: Seat;
  #session: Session = NEW_SESSION;
  #round = 0;
  #hasMonitor = false;
  /** The shadow that a tracked one is stored against; undefined while a base is captured. */
  #parent: { readonly round: number } | undefined;
  /** Pages that a tracked capture has read. */
  #copied = new Set<number>();
  /** The part of the stream that has arrived. */
  #received: Memory = [];
  /** The part that had arrived when the VM stopped. */
  #receivedAtStop: Memory = [];
  #callOff: () => void = () => {};
  /** The daemon has disconnected: the proxy exits when it is idle. */
  #leaving = false;

  constructor(world: World, seat: Seat) {
    this.#world = world;
    this.#seat = seat;
    this.process = new ModelledProcess(world.events, world.random);
  }

  /** Returns true while it has the monitor, which serves one client at a time. */
  get holdsMonitor(): boolean {
    return this.process.isAlive && this.#hasMonitor;
  }

  /** Returns the milliseconds until QEMU can answer. */
  get #busyMs(): number {
    return Math.max(0, this.#seat.guest.busyUntilMs - this.#world.events.nowMs);
  }

  /** Takes the monitor. @returns false if another has it */
  #connect(): boolean {
    const all = this.#world.proxiesOf(this.#seat);
    this.#hasMonitor = !all.some((other) => other !== this && other.holdsMonitor);
    return this.#hasMonitor;
  }

  get inRound(): boolean {
    return this.#session.state !== IDLE;
  }

  /** Returns true while QEMU may switch over at any time. */
  get converges(): boolean {
    return this.#session.state === LIVE && this.#seat.capture === 'precopy';
  }

  command(round: number, command: MemberCommand): void {
    this.process.after(0, () => {
      if (command === 'prepare' && !this.inRound) {
        this.#round = round;
        this.#watchSilence();
      }
      if (round === this.#round && (this.inRound || command === 'prepare')) {
        this.handle({ type: command });
      } else if (command === 'abort') this.#tell(round, 'aborted');
    });
  }

  /** Handles a coordinator that is gone, or has been silent for too long. */
  orphan(leave: boolean): void {
    this.#leaving ||= leave;
    this.process.after(0, () => {
      this.handle({ type: 'orphaned' });
      this.#leaveWhenIdle();
    });
  }

  /** Gives up a coordinator that is frozen or no longer speaks to the proxy. */
  #watchSilence(): void {
    if (this.#world.broken === 'deadman-off') return;
    const round = this.#round;
    this.process.after(SILENCE_MS, () => {
      if (!this.inRound || round !== this.#round) return;
      if (this.#world.isSpokenTo(this, this.#seat, round)) this.#watchSilence();
      else this.orphan(false);
    });
  }

  /** Handles what QEMU or its stream does by itself. */
  happen(event: SessionEvent): void {
    this.process.after(MONITOR_MS, () => {
      if (event.type === 'vm-stopped') this.#stopped();
      else this.handle(event);
    });
  }

  /** Repairs a VM as the journal says, when no other process does. */
  repair(done: () => void): void {
    const seat = this.#seat;
    if (seat.journal === undefined || seat.guest.isDead) {
      seat.journal = undefined;
      done();
    } else {
      const { journal } = seat;
      this.process.after(UNDO_MS, () => this.#repair(journal, done));
    }
  }

  handle(event: SessionEvent): void {
    this.#world.coverage.session(this.#session, event);
    const { session, actions } = step(this.#session, event);
    this.#session = session;
    for (const action of actions) this.#enact(action);
  }

  #enact(action: SessionAction): void {
    const { guest } = this.#seat;
    switch (action.type) {
      case 'admit':
        this.#later(ADMIT_MS, () => this.#admit());
        break;
      case 'open':
        this.#seat.journal = { stopping: false };
        this.#later(OPEN_MS, () => {
          this.#received = guest.look();
          if (this.#seat.capture === 'tracked') this.#beginTracked();
          else this.handle({ type: 'streaming' });
        });
        break;
      case 'stop':
        this.#stop();
        break;
      case 'resume':
        this.#later(RESUME_MS, () => this.#resume());
        break;
      case 'seal':
        this.#later(SEAL_MS, () => this.#seal());
        break;
      case 'release':
        this.#follow(({ lineage }) => ({ lineage: commit(lineage), owed: new Set() }));
        this.#seat.journal = undefined;
        this.#hasMonitor = false;
        this.#leaveWhenIdle();
        break;
      case 'undo':
        this.#undo(action.keepShadow);
        break;
      case 'arm-deadline':
        if (this.#world.broken === 'deadman-off') break;
        this.#callOff = this.process.after(DEADLINE_MS * UNDO_SHARE, () => {
          this.handle({ type: 'deadline' });
        });
        break;
      case 'disarm-deadline':
        this.#callOff();
        break;
      case 'report':
        this.#tell(this.#round, action.report);
        break;
      case 'start':
      case 'vote':
        break;
    }
  }

  #admit(): void {
    if (!this.#connect()) {
      this.#fail('E_QMP_SILENT');
      return;
    }
    if (this.#busyMs > 0) {
      this.#later(this.#busyMs, () => this.#admit());
      return;
    }
    if (this.#seat.refusesAdmission || this.#seat.guest.isDead) {
      this.#seat.refusesAdmission = false;
      this.#fail('E_ADMISSION');
      return;
    }
    this.#world.store.stage(this.#round, this.#seat.name);
    this.#parent = this.#seat.capture === 'tracked' ? this.#knownParent() : undefined;
    this.handle({ type: 'admitted', background: this.#seat.capture === 'background' });
  }

  #stop(): void {
    const { journal, guest } = this.#seat;
    const { life } = guest;
    if (journal !== undefined) journal.stopping = true;
    const ms = this.#world.random.uniform(0.5, 1.5) * STOP_MS + this.#seat.stopsSlowerMs;
    this.#seat.stopsSlowerMs = 0;
    guest.busyUntilMs = this.#world.events.nowMs + ms;
    // QEMU does it, whatever becomes of us.
    this.#world.events.after(ms, () => {
      if (life !== guest.life) return;
      if (!guest.stop(this.#world.events.nowMs)) return;
      this.happen({ type: 'vm-stopped' });
      this.#world.onStopped(this.#seat);
    });
  }

  #stopped(): void {
    const { guest, name } = this.#seat;
    if (guest.runs || guest.isDead) return;
    const cut = guest.look();
    this.#world.noteCut(this.#round, name, cut);
    this.#receivedAtStop = this.#received;
    const background = this.#session.background;
    if (background) this.#received = cut;
    this.handle({ type: 'vm-stopped' });
    if (this.#world.broken === 'barrier') this.handle({ type: 'barrier' });
    if (this.#seat.capture === 'tracked') {
      this.#later(DRAIN_MS, () => this.#takeResidue(cut));
      return;
    }
    this.#later(background ? SAVE_MS : DRAIN_MS, () => {
      if (this.#seat.cutsStream) {
        this.#seat.cutsStream = false;
        if (this.#world.broken !== 'lost-end') {
          this.#fail('E_STREAM_TRUNCATED');
          return;
        }
        if (background) this.#received = this.#receivedAtStop;
      } else this.#received = cut;
      this.handle({ type: 'drained' });
    });
  }

  #resume(): void {
    const { guest } = this.#seat;
    if (this.#session.state === UNDOING || this.#session.state === IDLE) return;
    if (guest.runs && this.#world.broken !== 'resumed-early') {
      this.#fail('E_RESUMED_EARLY');
    } else if (this.#world.cont(this.#seat)) {
      this.happen({ type: 'vm-resumed' });
    } else if (!guest.isDead) {
      this.process.after(RETRY_MS, () => this.#resume());
    }
  }

  #seal(): void {
    const { store, broken } = this.#world;
    const { name } = this.#seat;
    if (this.#parent !== undefined) {
      this.#sealLink(this.#parent.round);
      return;
    }
    const base = store.baseFor(name);
    const index = broken === 'stale-index' ? this.#receivedAtStop : this.#received;
    const same = index.flatMap((version, page) => (version === base?.pages[page] ? [page] : []));
    const isDelta = base !== undefined && same.length < PAGES;
    const sealed =
      !this.#seat.storeIsFull &&
      store.seal(this.#round, {
        member: name,
        cut: this.#round,
        pages: this.#received,
        base: isDelta ? base.round : undefined,
        same: new Set(isDelta ? same : []),
      });
    this.#whenSealed(sealed);
  }

  #whenSealed(sealed: boolean): void {
    this.#seat.storeIsFull = false;
    if (!sealed) {
      this.#fail('E_STORE_NO_ROOM');
      return;
    }
    this.#follow(({ lineage }) => ({ lineage: pend(lineage, String(this.#round)) }));
    this.handle({ type: 'sealed' });
  }

  // A tracked guest (member/capture/tracked.ts)

  /** Finds the shadow that a link can be stored against; undefined: a base is captured. */
  #knownParent(): { readonly round: number } | undefined {
    const { guest, ledger, name } = this.#seat;
    const { broken, store } = this.#world;
    const parent = store.parentFor(name);
    if (ledger === undefined || parent === undefined || ledger.life !== guest.life)
      return undefined;
    if (ledger.clearing && broken !== 'cleared-unnoted') return undefined;
    const known = knows(ledger.lineage, String(parent.cut));
    if (known === 'unknown') return undefined;
    if (known === 'committed') {
      this.#follow(({ lineage }) => ({ lineage: commit(lineage), owed: new Set() }));
    }
    return parent;
  }

  #follow(change: (ledger: ModelledLedger) => Partial<ModelledLedger>): void {
    const { ledger } = this.#seat;
    if (ledger !== undefined) this.#seat.ledger = { ...ledger, ...change(ledger) };
  }

  #beginTracked(): void {
    const { guest } = this.#seat;
    if (this.#parent === undefined) {
      const { life } = guest;
      this.#seat.ledger = { life, lineage: UNKNOWN, owed: new Set(), clearing: false };
      guest.takeMarks();
      this.handle({ type: 'streaming' });
      return;
    }
    const owed = this.#seat.ledger?.owed ?? new Set();
    this.#copied = new Set(this.#world.broken === 'nothing-owed' ? [] : owed);
    this.#clearMarks(() => this.handle({ type: 'streaming' }));
  }

  /** Captures what is left of a guest that stands. @param cut its memory */
  #takeResidue(cut: Memory): void {
    const { guest } = this.#seat;
    if (this.#parent === undefined) {
      guest.takeMarks(); // all of it has arrived
      this.#received = cut;
      this.handle({ type: 'drained' });
      return;
    }
    this.#clearMarks(() => {
      this.#received = cut;
      this.handle({ type: 'drained' });
    });
  }

  /** Clears marks, and notes what was cleared: it may die in between. */
  #clearMarks(next: () => void): void {
    this.#follow(() => ({ clearing: true }));
    const taken = this.#seat.guest.takeMarks();
    this.#later(CLEAR_MS, () => {
      this.#follow(({ owed }) => ({ owed: new Set([...owed, ...taken]), clearing: false }));
      for (const page of taken) this.#copied.add(page);
      next();
    });
  }

  #sealLink(parent: number): void {
    const { store } = this.#world;
    const others = Array.from({ length: PAGES }, (_, page) => page);
    const same = new Set(others.filter((page) => !this.#copied.has(page)));
    const shadow = { member: this.#seat.name, cut: this.#round, pages: this.#received };
    const isFull = this.#seat.storeIsFull;
    this.#whenSealed(!isFull && store.seal(this.#round, { ...shadow, base: parent, same }));
  }

  #undo(keepShadow: boolean): void {
    const round = this.#round;
    this.#later(UNDO_MS, () =>
      this.#repair(this.#seat.journal, () => {
        if (!keepShadow) this.#world.store.discard(round, this.#seat.name);
        this.handle({ type: 'undone' });
        this.#leaveWhenIdle();
      }),
    );
  }

  /** @param journal what was found when the repair began */
  #repair(journal: ModelledJournal | undefined, done: () => void): void {
    const { guest } = this.#seat;
    // A round that has begun since has the monitor: the proxy's own, too.
    const isWithout = this.#holdsForRound || !this.#connect();
    if (journal !== undefined && !guest.isDead && (isWithout || this.#busyMs > 0)) {
      this.process.after(Math.max(this.#busyMs, UNDO_MS), () => this.#repair(journal, done));
      return;
    }
    if (journal === undefined || guest.isDead || guest.runs || this.#world.cont(this.#seat)) {
      if (this.#seat.journal === journal) this.#seat.journal = undefined;
      if (!this.#holdsForRound) this.#hasMonitor = false;
      done();
    } else this.process.after(RETRY_MS, () => this.#repair(journal, done));
  }

  get #holdsForRound(): boolean {
    return this.inRound && this.#session.state !== UNDOING && this.#hasMonitor;
  }

  #fail(code: string): void {
    const failure = { code, message: code, member: this.#seat.name };
    this.handle({ type: 'failed', failure });
  }

  #tell(round: number, report: SessionMilestone): void {
    this.#world.report(this, this.#seat, round, report);
  }

  #leaveWhenIdle(): void {
    if (this.#leaving && (this.#session.state === IDLE || this.#session.state === SEALED)) {
      this.process.die();
    }
  }

  #later(ms: number, happening: () => void): void {
    const { state } = this.#session;
    const round = this.#round;
    this.process.after(ms * this.#world.random.uniform(0.5, 1.5), () => {
      if (round !== this.#round) return;
      // A step that finds the round over ends.
      const over = this.#session.state === UNDOING || this.#session.state === IDLE;
      if (state === UNDOING || !over) happening();
    });
  }
}
