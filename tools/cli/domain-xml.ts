/** A domain's XML, from a file that an operator names. */
import { readFileSync } from 'node:fs';
import { UmbraError } from '../../proxy/failure/failure.ts';

/** @throws UmbraError E_LIBVIRT_XML */
export function readDomainXml(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const message = `cannot read ${file}: ${(cause as NodeJS.ErrnoException).code}`;
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message }, cause);
  }
}
