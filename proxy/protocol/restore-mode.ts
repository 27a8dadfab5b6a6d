/** Ways to bring a member and its clock back. PURE. */
import * as z from 'zod';

/**
 *     map       the VM maps its memory from the epoch
 *     stream    the memory is sent into a VM with memory of its own
 *     libvirt   libvirt starts the VM from a file of its own format
 */
export const restoreModeSchema = z.enum(['map', 'stream', 'libvirt']);
export type RestoreMode = z.infer<typeof restoreModeSchema>;

/** The modes an operator can ask for; `auto` maps where the VM allows it. */
const RESTORE_CHOICES = ['auto', 'map', 'stream'] as const;
export const restoreChoiceSchema = z.enum(RESTORE_CHOICES);
export type RestoreChoice = z.infer<typeof restoreChoiceSchema>;

/**
 *     installed   the QEMU that the command line names, as it is now
 *     recorded    the QEMU that the VM ran on when the epoch was taken
 */
export const qemuChoiceSchema = z.enum(['installed', 'recorded']);
export type QemuChoice = z.infer<typeof qemuChoiceSchema>;

/**
 *     keep       the guest's wall clock goes on from the cut: it lags by the epoch's age
 *     catch-up   the guest agent sets it to the host's, when all VMs run
 */
export const clockChoiceSchema = z.enum(['keep', 'catch-up']);
export type ClockChoice = z.infer<typeof clockChoiceSchema>;

/** Outcomes of a guest's clock. */
export const clockOutcomeSchema = z.enum(['kept', 'caught-up', 'no-agent']);
