/** Certificates for QEMU's own TLS (tls-creds-x509), signed by an authority made for one test. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const DAYS = '2';

/**
 * Makes a folder with the files QEMU expects: `ca-cert.pem`, `server-*.pem`, `client-*.pem`.
 * The files are readable by all users.
 * @param addresses IP addresses the certificate names; clients of a relay check the relay's
 */
export function makeCertificates(directory: string, addresses: readonly string[]): void {
  mkdirSync(directory, { mode: 0o755 });
  const at = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const authority = ['-keyout', at('ca-key.pem'), '-out', at('ca-cert.pem')];
  const subject = ['-subj', '/CN=umbra test authority', '-days', DAYS];
  const usage = ['-addext', 'keyUsage=critical,keyCertSign'];
  openssl('req', '-x509', ...newKey, ...authority, ...subject, ...usage);
  const names = addresses.map((address) => `IP:${address}`).join(',');
  writeFileSync(
    at('extensions'),
    `subjectAltName=${names}\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n`,
  );
  const request = at('request.pem');
  openssl('req', ...newKey, '-keyout', at('server-key.pem'), '-out', request, '-subj', '/CN=host');
  const signer = ['-CA', at('ca-cert.pem'), '-CAkey', at('ca-key.pem'), '-CAcreateserial'];
  const signed = ['-days', DAYS, '-extfile', at('extensions'), '-out', at('server-cert.pem')];
  openssl('x509', '-req', '-in', request, ...signer, ...signed);
  for (const part of ['cert', 'key']) {
    copyFileSync(at(`server-${part}.pem`), at(`client-${part}.pem`));
    for (const role of ['server', 'client']) chmodSync(at(`${role}-${part}.pem`), 0o644);
  }
}
