/**
 * XBZRLE: a page as its difference from the page's previous content (migration/xbzrle.c).
 *
 *   { zrun ULEB128 ; nzrun ULEB128 ; nzrun literal bytes } …
 *
 * zrun bytes of the old content stay, nzrun bytes are replaced; what follows the last run stays.
 * ULEB128 has one or two bytes here, 14 bits. Only the first zrun may be 0, no nzrun may.
 */

/**
 * Applies the difference of `length` bytes at `source[at]` to `page`, in place.
 * @returns '' or, with `page` in an undefined state, what is wrong with the encoding
 */
export function applyXbzrle(source: Buffer, at: number, length: number, page: Buffer): string {
  const end = at + length;
  let from = at;
  let to = 0;
  while (from < end) {
    // QEMU reads two bytes ahead for either run, so fewer than two left is an error there too.
    if (end - from < 2) return 'a run is cut off';
    let run = source.readUInt8(from++);
    if (run & 0x80) {
      const high = source.readUInt8(from++);
      if (high & 0x80) return 'an unchanged run is longer than 14 bits';
      run = (run & 0x7f) | (high << 7);
    }
    if (run === 0 && to > 0) return 'an unchanged run is empty';
    to += run;
    if (to > page.length) return 'an unchanged run goes past the page';

    if (end - from < 2) return 'a changed run is missing';
    run = source.readUInt8(from++);
    if (run & 0x80) {
      const high = source.readUInt8(from++);
      if (high & 0x80) return 'a changed run is longer than 14 bits';
      run = (run & 0x7f) | (high << 7);
    }
    if (run === 0) return 'a changed run is empty';
    if (to + run > page.length) return 'a changed run goes past the page';
    if (run > end - from) return 'a changed run goes past the encoding';
    source.copy(page, to, from, from + run);
    to += run;
    from += run;
  }
  return '';
}
