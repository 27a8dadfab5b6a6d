/** List of the fuzzer's targets. The promises of each are listed at the top of its file. */
import type { Target } from './target.ts';

type Loader = () => Promise<{ readonly target: Target }>;

const TARGETS: Readonly<Record<string, Loader>> = {
  stream: () => import('./targets/stream.ts'),
  'return-path': () => import('./targets/return-path.ts'),
  relay: () => import('./targets/relay.ts'),
  qmp: () => import('./targets/qmp.ts'),
  'qmp-client': () => import('./targets/qmp-client.ts'),
  'libvirt-lines': () => import('./targets/libvirt-lines.ts'),
  'command-line': () => import('./targets/command-line.ts'),
  config: () => import('./targets/config.ts'),
  api: () => import('./targets/api.ts'),
  manifest: () => import('./targets/manifest.ts'),
  'page-index': () => import('./targets/page-index.ts'),
  container: () => import('./targets/container.ts'),
  shadow: () => import('./targets/shadow.ts'),
  journal: () => import('./targets/journal.ts'),
  report: () => import('./targets/report.ts'),
  switch: () => import('./targets/switch.ts'),
  'guest-control': () => import('./targets/guest-control.ts'),
  'guest-agent': () => import('./targets/guest-agent.ts'),
};

/** Target for the fuzzer's own test: not a part of Umbra, and broken. */
const PLANTED = 'planted';
const ALL: Readonly<Record<string, Loader>> = {
  ...TARGETS,
  [PLANTED]: () => import('./targets/planted.ts'),
};

export const TARGET_NAMES = Object.keys(TARGETS);

export async function loadTarget(name: string): Promise<Target> {
  const load = ALL[name];
  if (load === undefined) {
    throw new Error(`no target ${name}; there are: ${TARGET_NAMES.join(', ')}`);
  }
  return (await load()).target;
}
