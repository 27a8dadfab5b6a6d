/** Metadata to seal a shadow with, for tests to which it does not matter. */
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
