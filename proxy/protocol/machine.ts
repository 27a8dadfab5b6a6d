/** The machine that a QEMU runs, as its shadow names it. PURE. */
export type { Machine } from '../../shadow/index.ts';
