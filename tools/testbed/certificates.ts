/** Certificates for QEMU's own TLS (tls-creds-x509), of an authority that lasts for a test. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const DAYS = '2';

/**
 * Makes a folder with what QEMU looks for in it, readable by everyone.
 * @param addresses whom the certificate is good for; a relay is whom its clients ask for
 */
export function makeCertificates(directory: string, addresses: readonly string[]): void {
  mkdirSync(directory, { mode: 0o755 });
  const at = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    at('ca-key.pem'),
    '-out',
    at('ca-cert.pem'),
    '-subj',
    '/CN=umbra test authority',
    '-days',
    DAYS,
    '-addext',
    'keyUsage=critical,keyCertSign',
  );
  const names = addresses.map((address) => `IP:${address}`).join(',');
  writeFileSync(
    at('extensions'),
    `subjectAltName=${names}\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n`,
  );
  const request = at('request.pem');
  openssl('req', ...newKey, '-keyout', at('server-key.pem'), '-out', request, '-subj', '/CN=host');
  openssl(
    'x509',
    '-req',
    '-in',
    request,
    '-CA',
    at('ca-cert.pem'),
    '-CAkey',
    at('ca-key.pem'),
    '-CAcreateserial',
    '-days',
    DAYS,
    '-extfile',
    at('extensions'),
    '-out',
    at('server-cert.pem'),
  );
  for (const part of ['cert', 'key']) {
    copyFileSync(at(`server-${part}.pem`), at(`client-${part}.pem`));
    for (const role of ['server', 'client']) chmodSync(at(`${role}-${part}.pem`), 0o644);
  }
}
