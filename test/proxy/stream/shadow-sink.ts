/** A sink that keeps everything: RAM images, and the calls in order as readable lines. */
import { createHash } from 'node:crypto';
import type { PageSource } from '../../../proxy/stream/encoder.ts';
import type { PrecopyResult, PrecopySink, RamBlock } from '../../../proxy/stream/sink.ts';

export class ShadowSink implements PrecopySink {
  /** Off for large streams: only images are kept then. */
  readonly traced: boolean;
  readonly calls: string[] = [];
  readonly images: Buffer[] = [];
  list: readonly RamBlock[] = [];
  machineType = '';
  ended = false;
  result: PrecopyResult | undefined;

  constructor(traced = true) {
    this.traced = traced;
  }

  machine(machineType: string, pageSize: number): void {
    this.machineType = machineType;
    this.#call(`machine ${machineType} ${pageSize}`);
  }

  blocks(blocks: readonly RamBlock[]): void {
    this.list = [...blocks];
    this.#call(`blocks ${JSON.stringify(blocks)}`);
    // What lies in a block before the first page must not matter: poison it.
    for (const { usedLength } of blocks) this.images.push(Buffer.alloc(usedLength, 0xee));
  }

  page(block: number, offset: number, chunk: Uint8Array, at: number): void {
    const content = chunk.subarray(at, at + this.#pageSize);
    if (content.length !== this.#pageSize) throw new Error('A page is cut off');
    this.#image(block).set(content, offset);
    if (this.traced) this.#call(`page ${block} ${offset} ${digest(content)}`);
  }

  zero(block: number, offset: number): void {
    this.#image(block).fill(0, offset, offset + this.#pageSize);
    this.#call(`zero ${block} ${offset}`);
  }

  load(block: number, offset: number, into: Uint8Array): void {
    into.set(this.#image(block).subarray(offset, offset + this.#pageSize));
    this.#call(`load ${block} ${offset}`);
  }

  returnPath(): void {
    this.#call('returnPath');
  }

  ping(value: number): void {
    this.#call(`ping ${value}`);
  }

  ramEnd(): void {
    this.ended = true;
    this.#call('ramEnd');
  }

  complete(result: PrecopyResult): void {
    if (this.result !== undefined) throw new Error('Completed twice');
    this.result = result;
    const { configuration, deviceState, vmdesc, end } = result;
    this.#call(`complete ${digest(configuration)} ${digest(deviceState)} ${vmdesc} ${end}`);
  }

  /** Returns the image as a source for the encoder. */
  source(): PageSource {
    return {
      blocks: this.list,
      read: (block, offset, into, at) => {
        const content = this.#image(block).subarray(offset, offset + this.#pageSize);
        if (content.every((byte) => byte === 0)) return false;
        into.set(content, at);
        return true;
      },
    };
  }

  image(idstr: string): Buffer {
    return this.#image(this.list.findIndex((block) => block.idstr === idstr));
  }

  get #pageSize(): number {
    return this.list[0]?.pageSize ?? Number.NaN;
  }

  #image(block: number): Buffer {
    const image = this.images[block];
    if (image === undefined) throw new Error(`No block ${block}`);
    return image;
  }

  #call(call: string): void {
    if (this.traced) this.calls.push(call);
  }
}

function digest(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex').slice(0, 12);
}
