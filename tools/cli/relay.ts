/**
 * `umbra relay`: runs in the foreground. The first signal lets migrations end, the next ends them.
 */
import { closeSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { relayChanges } from '../../proxy/config/changes.ts';
import { toFailure } from '../../proxy/failure/failure.ts';
import { formatAddress } from '../../proxy/host/address.ts';
import type { Reloaded } from '../../proxy/protocol/reload.ts';
import { controlSocket, openControl } from '../../proxy/relay/control.ts';
import { Relay } from '../../proxy/relay/relay.ts';
import { RelayStore } from '../../proxy/relay/relay-store.ts';
import type { MigrationProgress, MigrationReport } from '../../proxy/relay/report.ts';
import { makeTrustedFolder } from '../../shadow/index.ts';
import { umbraHome } from './home.ts';
import { bytes, duration, failureText, type Output, reloadedText } from './output.ts';
import { type RelayFlags, readRelay } from './relay-options.ts';
import { relayView } from './relay-progress.ts';

const HAD_TERMINAL = process.stdout.isTTY || process.stdin.isTTY;
/** A relay cannot know of a migration that does not come its way, but it can tell that none has. */
const NOTHING_CAME =
  'no migration came by: --migrateuri must name this relay, and --tunnelled ones travel inside ' +
  'libvirt’s own connection';

/**
 * Runs a relay until a signal.
 * @param file relay.yaml; undefined: all is said by options
 * @returns false if a migration has failed
 */
export async function relay(
  file: string | undefined,
  flags: RelayFlags,
  output: Output,
): Promise<boolean> {
  let present = readRelay(file, flags);
  const { routes, stallLimitMs, evacuation, store: keeping, report: folder } = present.config;
  if (folder !== undefined) makeTrustedFolder(folder);
  const keeper = keeping && (await RelayStore.open(keeping));
  const view = relayView(process.stdout, output.json);
  let well = true;
  const unused = new Set(routes.map(({ name }) => name));
  const opened = await Relay.open(
    { routes, stallLimitMs, evacuation, store: keeper },
    {
      onProgress: (migrations: readonly MigrationProgress[]) => view.show(migrations),
      onReport: (report: MigrationReport) => {
        view.over(report.migration);
        unused.delete(report.name);
        well &&= report.outcome !== 'failed';
        if (folder !== undefined) {
          const path = join(folder, `${report.migration}.json`);
          // A program that watches the folder finds whole reports only.
          const draft = `${path}.part`;
          writeFileSync(draft, `${JSON.stringify(report)}\n`, { mode: 0o600, flag: 'wx' });
          renameSync(draft, path);
        }
        output.result(report, reportText(report));
      },
    },
  );
  const reload = (): Reloaded => {
    const next = readRelay(file, flags);
    const applied = relayChanges(present, next);
    opened.reconfigure(next.config);
    if (next.config.store !== undefined) keeper?.reconfigure(next.config.store);
    present = next;
    output.result({ reloaded: applied }, `${file} was read again\n${reloadedText({ applied })}`);
    return { applied };
  };
  const control = file === undefined ? undefined : await openReload(file, reload, output);
  const listening = routes.map(({ name, listen, to }) => {
    return { name, listen: formatAddress(listen), to: formatAddress(to) };
  });
  output.result(
    { listening },
    listening.map(({ name, listen, to }) => `${name}: ${listen} → ${to}`).join('\n'),
  );
  let asked = false;
  const onSignal = () => {
    if (asked) opened.end();
    else opened.drain();
    asked = true;
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, onSignal);
  const onHangUp = () => (isTerminalGone() ? onSignal() : control?.onHangUp());
  if (control !== undefined) process.on('SIGHUP', onHangUp);
  try {
    await opened.over;
  } finally {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, onSignal);
    process.off('SIGHUP', onHangUp);
    control?.close();
    view.stop();
  }
  for (const name of unused)
    output.result({ name, note: NOTHING_CAME }, `${name}: ${NOTHING_CAME}`);
  return well;
}

/**
 * Lets the file be read again: by `umbra reload`, and by SIGHUP. Where there can be no socket for
 * the first, there is the second.
 */
async function openReload(file: string, reload: () => Reloaded, output: Output) {
  const onHangUp = () => {
    try {
      reload();
    } catch (error) {
      output.failure(toFailure(error, { where: 'reload' }));
    }
  };
  try {
    const { close } = await openControl(controlSocket(umbraHome(), file), reload);
    return { onHangUp, close };
  } catch (error) {
    output.failure(toFailure(error, { where: 'open' }));
    return { onHangUp, close: () => {} };
  }
}

/** Tells whether the terminal that this was started from is closed: that, too, is a SIGHUP. */
function isTerminalGone(): boolean {
  if (!HAD_TERMINAL) return false;
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return false;
  } catch {
    return true;
  }
}

function reportText(report: MigrationReport): string {
  const { name, outcome, transport, channels, streamBytes, durationMs, failure, shadow } = report;
  const connections = channels.length === 1 ? '' : `, ${channels.length} connections`;
  const lines = [
    `${name}: ${outcome}, ${bytes(streamBytes)} in ${duration(durationMs)} ` +
      `(${bytes(report.bytesPerSecond)}/s; ${transport}${connections})`,
  ];
  if (report.heldMs >= 1000) lines.push(`  others went first for ${duration(report.heldMs)}`);
  if (shadow?.kept) lines.push(`  shadow: epoch ${shadow.epoch}, ${bytes(shadow.storedBytes)}`);
  lines.push(...report.notes.map((note) => `  note: ${note}`));
  if (failure !== undefined) lines.push(failureText({ ...failure, member: name }));
  return lines.join('\n');
}
