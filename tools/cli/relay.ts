/** `umbra relay`: in the foreground until a signal; the first lets migrations end, the second ends them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NAME, NAME_HELP } from '../../proxy/config-schema.ts';
import { UmbraError } from '../../proxy/failure.ts';
import { formatAddress, parseAddress } from '../../proxy/relay/address.ts';
import { Relay } from '../../proxy/relay/relay.ts';
import type { MigrationProgress, MigrationReport } from '../../proxy/relay/report.ts';
import type { RouteTerms } from '../../proxy/relay/route.ts';
import { DURATION_HELP, parseDuration } from '../../proxy/units.ts';
import { bytes, duration, failureText, type Output } from './output.ts';
import { relayView } from './relay-progress.ts';

/** A destination that loads device state reads nothing for a moment. */
const STALL_LIMIT_MIN_MS = 1_000;

export interface RelaySpelling {
  readonly listen: readonly string[];
  readonly to: readonly string[];
  readonly name?: readonly string[];
  readonly stallLimit: string;
  readonly report?: string;
}

/** @returns whether every migration that ended did so well */
export async function relay(spelling: RelaySpelling, output: Output): Promise<boolean> {
  const routes = routesOf(spelling);
  const { report: folder } = spelling;
  if (folder !== undefined) mkdirSync(folder, { recursive: true });
  const view = relayView(process.stdout, output.json);
  let well = true;
  const terms = { routes, stallLimitMs: stallLimitOf(spelling) };
  const opened = await Relay.open(terms, {
    onProgress: (migrations: readonly MigrationProgress[]) => view.show(migrations),
    onReport: (report: MigrationReport) => {
      view.over(report.migration);
      well &&= report.outcome !== 'failed';
      if (folder !== undefined) {
        writeFileSync(join(folder, `${report.migration}.json`), `${JSON.stringify(report)}\n`);
      }
      output.result(report, reportText(report));
    },
  });
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
  try {
    await opened.over;
  } finally {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, onSignal);
    view.stop();
  }
  return well;
}

/** @throws UmbraError E_RELAY_ADDRESS */
export function routesOf({ listen, to, name = [] }: RelaySpelling): RouteTerms[] {
  const refuse = (message: string) => new UmbraError({ code: 'E_RELAY_ADDRESS', message });
  if (listen.length !== to.length) {
    throw refuse(`there are ${listen.length} --listen and ${to.length} --to`);
  }
  if (name.length > 0 && name.length !== listen.length) {
    throw refuse(`there are ${listen.length} --listen and ${name.length} --name`);
  }
  const names = listen.map((_, at) => name[at] ?? `vm${at}`);
  for (const [at, one] of names.entries()) {
    if (!NAME.test(one)) throw refuse(`--name ${one}: ${NAME_HELP}`);
    if (names.indexOf(one) < at) throw refuse(`--name ${one} is there twice`);
    if (listen.indexOf(listen[at] ?? '') < at)
      throw refuse(`--listen ${listen[at]} is there twice`);
  }
  return names.map((one, at) => ({
    name: one,
    listen: parseAddress(listen[at] ?? ''),
    to: parseAddress(to[at] ?? ''),
  }));
}

function stallLimitOf({ stallLimit }: RelaySpelling): number {
  const ms = parseDuration(stallLimit);
  if (ms !== undefined && ms >= STALL_LIMIT_MIN_MS) return ms;
  const message = `--stall-limit ${stallLimit}: it must be ${DURATION_HELP}, from 1s`;
  throw new UmbraError({ code: 'E_CONFIG', message });
}

export function reportText(report: MigrationReport): string {
  const { name, outcome, transport, channels, streamBytes, durationMs, failure, notes } = report;
  const connections = channels.length === 1 ? '' : `, ${channels.length} connections`;
  const lines = [
    `${name}: ${outcome}, ${bytes(streamBytes)} in ${duration(durationMs)} ` +
      `(${bytes(report.bytesPerSecond)}/s; ${transport}${connections})`,
    ...notes.map((note) => `  note: ${note}`),
  ];
  if (failure !== undefined) lines.push(failureText({ ...failure, member: name }));
  return lines.join('\n');
}
