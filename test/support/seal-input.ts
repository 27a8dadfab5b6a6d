/** What a shadow is sealed with, besides its memory, where a test does not care. */
import type { SealInput } from '../../shadow/index.ts';

export const SEAL_INPUT: SealInput = {
  identity: {
    machineType: 'pc-i440fx-7.2',
    qemuVersion: '7.2.0',
    uuid: '',
    name: '',
    commandLine: ['qemu'],
    workingDirectory: '/',
  },
  configuration: Buffer.from('conf'),
  deviceState: Buffer.from('devices'),
  vmdesc: undefined,
};
