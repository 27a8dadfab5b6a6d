/**
 * Settings with which this machine reaches Debian's mirror and the npm registry. A fresh system has
 * none; it gets those of the machine it is on. None of them is kept in the repository.
 */
import { copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../tools/packages/command.ts';

const OWN_CERTIFICATES = 'usr/local/share/ca-certificates';
const ALL_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy'];

/** Writes the machine's name servers, certificates and proxies of apt into a new system. */
export async function takeHostSettings(root: string): Promise<void> {
  await copyFile('/etc/resolv.conf', join(root, 'etc/resolv.conf'));
  const folder = join(root, OWN_CERTIFICATES);
  await mkdir(folder, { recursive: true });
  for (const name of await ownCertificates()) {
    await copyFile(join('/', OWN_CERTIFICATES, name), join(folder, name));
  }
  const settings = await runCommand('apt-config', ['dump']);
  const proxies = settings.split('\n').filter((line) => /^Acquire::[a-z]+::Proxy /i.test(line));
  await writeFile(join(root, 'etc/apt/apt.conf.d/00host'), `${proxies.join('\n')}\n`);
}

/** Returns the variables with which npm reaches its registry as it does on this machine. */
export async function networkVariables(): Promise<Record<string, string>> {
  const registry = (await runCommand('npm', ['config', 'get', 'registry'])).trim();
  const variables: Record<string, string> = { npm_config_registry: registry };
  if ((await ownCertificates()).length > 0) variables.NODE_EXTRA_CA_CERTS = ALL_CERTIFICATES;
  for (const name of PROXY_VARIABLES) {
    const value = process.env[name] ?? process.env[name.toUpperCase()];
    if (value !== undefined) variables[name] = value;
  }
  return variables;
}

async function ownCertificates(): Promise<string[]> {
  const names = await readdir(join('/', OWN_CERTIFICATES)).catch(() => []);
  return names.filter((name) => name.endsWith('.crt'));
}
