/** `umbra restore` of a cluster in place; clone.ts makes a second one. */
import { resolve } from 'node:path';
import type { RestoreOptions } from '../../proxy/protocol/operator.ts';
import type { RestoreProgress } from '../../proxy/protocol/progress.ts';
import { withDaemon } from './daemon.ts';
import { readDomainXml } from './domain-xml.ts';
import { storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { ensureDaemon, ensureSwitch } from './processes.ts';
import { restoreText } from './reports.ts';

export interface RestoreArguments {
  /** The newest if undefined. */
  readonly epoch: number | undefined;
  /** The configured one if undefined. */
  readonly mode: RestoreOptions['mode'] | undefined;
  /** The configured one if undefined. */
  readonly clock: RestoreOptions['clock'] | undefined;
  readonly replace: boolean;
  readonly verify: boolean;
  readonly qemu: RestoreOptions['qemu'];
  readonly from: RestoreOptions['from'];
  /** Folder of a relay, whose epoch it is. */
  readonly store?: string | undefined;
  /** Member that the VM of a relay's epoch is. */
  readonly member?: string | undefined;
  /** File with the domain's XML. */
  readonly xml?: string | undefined;
}

/** Brings the cluster back as it was in an epoch. */
export async function restore(
  cluster: string,
  { epoch, mode, clock, replace, verify, qemu, from, store, member, xml }: RestoreArguments,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  ensureSwitch(config);
  await ensureDaemon(config, false);
  const body = {
    epoch,
    mode: mode ?? config.restore.mode,
    clock: clock ?? config.restore.clock,
    replace,
    qemu,
    from,
    verify: verify ? ('all' as const) : ('changed' as const),
    ...(store !== undefined && { store: resolve(store) }),
    ...(member !== undefined && { member }),
    ...(xml !== undefined && { xml: readDomainXml(xml) }),
  };
  const report = await withDaemon(config, (daemon) =>
    daemon.follow('restore', { body }, (progress) => output.say(stepText(progress))),
  );
  output.result(report, restoreText(report));
}

/** Returns a step of a restore as a line. */
export function stepText({ step, member }: RestoreProgress): string {
  return `  ${step}${member === undefined ? '' : ` ${member}`}`;
}
