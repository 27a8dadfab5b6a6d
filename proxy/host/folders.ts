/**
 * Every name of a file or socket that Umbra makes in a cluster's folder.
 *
 *     HOME/CLUSTER/                     0700
 *       cluster.json                    which cluster.yaml it was made from
 *       lock                            locked by the daemon that runs (host/lock.ts)
 *       api.sock daemon.json daemon.log the daemon: its API, its process, its log
 *       switch.json switch.log          the switch
 *       restore.json                    what a restore under way has started
 *       epochs/                         the catalogue: manifests and pins
 *       rounds/                         reports of rounds
 *       qemu/                           QEMUs that VMs ran on (agent/restores/kept-program.ts)
 *       shadows/                        shadows, or elsewhere by `store.directory`
 *       vm/MEMBER/                      a member's own folder, 0700
 *         vm.json vm.log                its QEMU: process and command line, output
 *         round.json                    the journal of a round
 *         tracking.json tracking.owed   which of its pages no epoch has yet (member/tracking/)
 *         device-state                  where QEMU saves it; has no name but for an instant
 *         migration.sock                where QEMU's migration stream is received
 *         incoming.sock                 where a restored QEMU takes its state from
 *         qmp.sock                      monitor of a domain (qmp/libvirt/monitor-bridge.ts)
 *         restore.pipe restore.save     what `virsh restore` reads
 */
import { join } from 'node:path';

/** File names in a cluster's folder. */
export const CLUSTER_FILES = {
  config: 'cluster.json',
  lock: 'lock',
  api: 'api.sock',
  daemon: 'daemon.json',
  daemonLog: 'daemon.log',
  switch: 'switch.json',
  switchLog: 'switch.log',
  restore: 'restore.json',
} as const;

/** Folder names in a cluster's folder. */
export const CLUSTER_FOLDERS = {
  epochs: 'epochs',
  rounds: 'rounds',
  shadows: 'shadows',
  members: 'vm',
  programs: 'qemu',
} as const;

/** File names in a member's folder. */
export const MEMBER_FILES = {
  vm: 'vm.json',
  vmLog: 'vm.log',
  journal: 'round.json',
  tracking: 'tracking.json',
  trackingOwed: 'tracking.owed',
  deviceState: 'device-state',
  migration: 'migration.sock',
  incoming: 'incoming.sock',
  monitor: 'qmp.sock',
  restorePipe: 'restore.pipe',
  restoreImage: 'restore.save',
} as const;

/** Returns the path of one of the files in a cluster's folder. */
export function clusterFile(directory: string, file: keyof typeof CLUSTER_FILES): string {
  return join(directory, CLUSTER_FILES[file]);
}

/** Returns the path of one of the folders in a cluster's folder. */
export function clusterFolder(directory: string, folder: keyof typeof CLUSTER_FOLDERS): string {
  return join(directory, CLUSTER_FOLDERS[folder]);
}

/** Returns a member's own folder. */
export function memberFolder(clusterDirectory: string, member: string): string {
  return join(clusterFolder(clusterDirectory, 'members'), member);
}

/**
 * Returns the path of one of the files in a member's folder.
 * @param directory the member's own; its length is limited by config/config.ts
 */
export function memberFile(directory: string, file: keyof typeof MEMBER_FILES): string {
  return join(directory, MEMBER_FILES[file]);
}
