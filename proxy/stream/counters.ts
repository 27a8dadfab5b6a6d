/** Counts of what was decoded so far. `zeroPages` compares with QEMU's `duplicate`, for example. */
export interface StreamCounters {
  /** Bytes given to `write`. */
  bytes: number;
  normalPages: number;
  zeroPages: number;
  xbzrlePages: number;
  compressedPages: number;
  /** RAM sections begun: START, PARTs, END. */
  ramSections: number;
}

export function zeroCounters(): StreamCounters {
  return {
    bytes: 0,
    normalPages: 0,
    zeroPages: 0,
    xbzrlePages: 0,
    compressedPages: 0,
    ramSections: 0,
  };
}
