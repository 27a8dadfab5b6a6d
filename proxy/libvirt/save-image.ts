/**
 * The file `virsh restore` reads (libvirt, src/qemu/qemu_saveimage.h), raw. PURE.
 *
 *      0  16   "LibvirtQemudSave"
 *     16   4   version 2               this and the next: u32 in the host's byte order
 *     20   4   data length             from byte 92 to the stream
 *     24   4   was running             1: the domain runs when restored, unless --paused
 *     28   4   compressed              0: raw
 *     32   4   cookie offset           0: none
 *     36  56   unused
 *     92       domain XML, NUL, zeros up to a multiple of 64 KiB, or of 1 MiB in a pipe
 *      …       QEMU's migration stream
 */
import { UmbraError } from '../failure/failure.ts';

const MAGIC = 'LibvirtQemudSave';
const VERSION = 2;
const HEADER_BYTES = 92;
/** The alignment that O_DIRECT needs, bytes; libvirt's own files have it. */
const ALIGNMENT = 64 * 1024;
/** Bytes that libvirt's helper for files reads at once; a pipe is read by it, too (since 11). */
export const PIPE_ALIGNMENT = 2 ** 20;
/** Bytes of the longest XML that libvirt reads; a domain's has some KiB. */
const XML_BYTES_MAX = 8 * 2 ** 20;

/**
 * Returns everything before the stream.
 * @throws UmbraError E_LIBVIRT_XML when the XML cannot be a domain's
 */
export function saveImageHead(xml: string, alignment = ALIGNMENT): Buffer {
  const text = Buffer.from(xml, 'utf8');
  if (!/<domain[\s>]/.test(xml) || !/<\/domain>\s*$/.test(xml) || text.includes(0)) {
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message: 'it does not describe a domain' });
  }
  if (text.length > XML_BYTES_MAX) {
    const message = `${text.length} bytes are more than any domain’s description`;
    throw new UmbraError({ code: 'E_LIBVIRT_XML', message });
  }
  const length = Math.ceil((HEADER_BYTES + text.length + 1) / alignment) * alignment;
  const head = Buffer.alloc(length);
  head.write(MAGIC, 'latin1');
  const fields = new Uint32Array([VERSION, length - HEADER_BYTES, 1, 0, 0]);
  head.set(new Uint8Array(fields.buffer), MAGIC.length);
  head.set(text, HEADER_BYTES);
  return head;
}
