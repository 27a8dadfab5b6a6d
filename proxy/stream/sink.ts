/**
 * Calls of the decoder to its owner, in stream order. The decoder knows no shadow store and no
 * socket: its owner joins them here. An exception thrown by a sink fails the decoder and reaches
 * the caller of `write` unchanged. A sink must not call back into the decoder.
 */
export interface RamBlock {
  readonly idstr: string;
  /** Bytes in use; a multiple of `pageSize`. */
  readonly usedLength: number;
  /** Unit of transfer, bytes: the target page. */
  readonly pageSize: number;
  /** Guest-physical address; sent only with the capability x-ignore-shared. */
  readonly guestAddress?: number;
}

/** Evidence of the end: the VMDESC walk met it, its JSON fits, or the transport closed. */
export type EndEvidence = 'walk' | 'json' | 'eof';

export interface PrecopyResult {
  /** CONFIGURATION section verbatim, with its type byte; empty if the source sent none. */
  readonly configuration: Uint8Array;
  /** First FULL to the EOF byte inclusive, verbatim; its boundaries are unknown without VMDESC. */
  readonly deviceState: Uint8Array;
  /** VMDESC's JSON text; undefined if the machine suppresses it. */
  readonly vmdesc: string | undefined;
  readonly end: EndEvidence;
}

export interface PrecopySink {
  /**
   * Reports the machine: CONFIGURATION is complete. `machineType` is '' if the source sent none.
   */
  machine(machineType: string, pageSize: number): void;
  /** RAM START: the blocks, in stream order. May throw to refuse the machine. */
  blocks(blocks: readonly RamBlock[]): void;
  /**
   * Takes new content of one page: `pageSize` bytes at `chunk[at]`. The bytes are valid during the
   * call: a view that is kept would pin a whole chunk, or see the next page.
   * @param block index into the list given to `blocks`
   * @param offset bytes from the start of the block
   */
  page(block: number, offset: number, chunk: Uint8Array, at: number): void;
  /** The page is all zero now. It may have been something else before: never ignore it. */
  zero(block: number, offset: number): void;
  /** Copies the page's last content into `into` (one page): the base of an XBZRLE page. */
  load(block: number, offset: number, into: Uint8Array): void;
  /** The source opened the return path, and will wait for SHUT after its last byte. */
  returnPath(): void;
  /** Asks for PONG with the same value on the return path. */
  ping(value: number): void;
  /** The RAM END section is complete: the VM is stopped and the RAM image is final. */
  ramEnd(): void;
  /** Ends the stream: it is whole. The arrays belong to the sink from here on. */
  complete(result: PrecopyResult): void;
  /** Optional trace: a section or command begins, e.g. 'ram PART' or 'COMMAND PING'. */
  section?(name: string, offset: number): void;
}
