import { strict as assert } from 'node:assert';
import type { PrecopySink, RamBlock } from '../../../proxy/stream/sink.ts';

/** Checks what every sink relies on, and hashes the calls. */
export class CheckingSink implements PrecopySink {
  calls = 0;
  hash = 0;
  completed = 0;
  #blocks: readonly RamBlock[] = [];
  #ended = false;

  machine(machineType: string, pageSize: number): void {
    assert.ok(machineType.length <= 256 && pageSize >= 1024 && pageSize <= 65536);
    this.#note(1, pageSize);
  }
  blocks(blocks: readonly RamBlock[]): void {
    assert.ok(blocks.length > 0 && blocks.length <= 64);
    assert.equal(this.#blocks.length, 0);
    this.#blocks = blocks;
    this.#note(2, blocks.length);
  }
  page(block: number, offset: number, chunk: Uint8Array, at: number): void {
    this.#inside(block, offset);
    const size = this.#blocks[block]?.pageSize ?? Number.NaN;
    assert.ok(at >= 0 && at + size <= chunk.length);
    this.#note(chunk[at] ?? -1, chunk[at + size - 1] ?? -1);
  }
  zero(block: number, offset: number): void {
    this.#inside(block, offset);
    this.#note(4, offset);
  }
  load(block: number, offset: number, into: Uint8Array): void {
    this.#inside(block, offset);
    assert.equal(into.length, this.#blocks[block]?.pageSize);
    into.fill(7);
  }
  returnPath(): void {
    this.#note(5, 0);
  }
  ping(value: number): void {
    this.#note(6, value);
  }
  ramEnd(): void {
    assert.equal(this.#ended, false);
    this.#ended = true;
    this.#note(7, 0);
  }
  complete({ deviceState, vmdesc }: { deviceState: Uint8Array; vmdesc: string | undefined }): void {
    assert.ok(this.#ended);
    assert.equal(deviceState.at(-1), 0);
    this.completed++;
    this.#note(deviceState.length, vmdesc?.length ?? -1);
  }
  #inside(block: number, offset: number): void {
    const known = this.#blocks[block];
    assert.ok(known !== undefined && !this.#ended);
    assert.ok(offset >= 0 && offset % known.pageSize === 0 && offset < known.usedLength);
  }
  #note(one: number, two: number): void {
    this.calls++;
    this.hash = (Math.imul(this.hash, 31) + one * 7 + two) | 0;
  }
}
