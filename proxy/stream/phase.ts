/** Progress of a stream, for its owner. */
export const PHASE = {
  /** Before the RAM block list. */
  header: 'header',
  /** Pages; the VM may be running. */
  ram: 'ram',
  /** The VM is stopped and its RAM final; device state. */
  tail: 'tail',
  complete: 'complete',
  failed: 'failed',
} as const;

export type Phase = (typeof PHASE)[keyof typeof PHASE];
