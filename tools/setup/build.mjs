/**
 * Builds the published programs in dist: one file for each, and chunks that they share.
 *
 *     tools/cli/main.ts, proxy/member/process.ts, …  ──▶ dist, under the same names; dist/chunks
 *     packages they use                              ──▶ bundled into these; dist/LICENSES.txt
 *     packages with machine code                     ──▶ remain dependencies
 *
 * A command runs for a moment, and a restore is as quick as its proxies start. Without bundling, each
 * of them spent half of its time on finding and reading hundreds of files of other packages.
 */
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));
const PROGRAMS = [
  'tools/cli/main.ts',
  'proxy/switch/main.ts',
  'proxy/member/process.ts',
  'proxy/agent/durable/list-process.ts',
  'proxy/agent/durable/job-process.ts',
];
/** Definitions that bundled CommonJS packages expect, for a file that is an ES module. */
const COMMON_JS = [
  "import { createRequire as $createRequire } from 'node:module';",
  'const require = $createRequire(import.meta.url);',
  'const { filename: __filename, dirname: __dirname } = import.meta;',
].join(' ');

const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
rmSync(join(root, 'dist'), { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: PROGRAMS,
  outbase: '.',
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: Object.keys(dependencies),
  banner: { js: COMMON_JS },
  metafile: true,
  logLevel: 'warning',
});
chmodSync(join(root, 'dist/tools/cli/main.js'), 0o755);
writeFileSync(join(root, 'dist/LICENSES.txt'), licences(Object.keys(metafile.inputs)));

/** Returns the licences of all bundled packages. */
function licences(files) {
  const folders = files.flatMap((file) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []);
  return [...new Set(folders)].sort().map(licenceOf).join('\n');
}

function licenceOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
  const file = readdirSync(join(root, folder)).find((one) => /^licen[cs]e/i.test(one));
  const text = file === undefined ? '' : readFileSync(join(root, folder, file), 'utf8');
  return `${name} ${version} (${license})\n\n${text}`;
}
