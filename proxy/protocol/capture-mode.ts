/** How members are captured, and background snapshots made one cut. */

/**
 * In the order `auto` tries them: the least downtime first.
 * How a member's state gets into its shadow (design notes, capture modes).
 *
 *     background   the VM stops for an instant, and is copied, as it was then, while it runs on
 *     precopy      memory streams while the VM runs; the drain is the last dirty set
 *     stop-copy    the VM stops first, then everything is copied: slow, and always right
 */
export const CAPTURES = ['background', 'precopy', 'stop-copy'] as const;
export type CaptureMode = (typeof CAPTURES)[number];

/**
 * What makes background snapshots of several members one cut (proxy/member/capture/background.ts).
 *
 *     frames-held   who has been cut runs on, and nothing it sends leaves until all have been cut
 *     all-stopped   who has been cut stands until all have been cut
 *     auto          frames held where that can be, else all stopped
 */
export const CUTS = ['auto', 'frames-held', 'all-stopped'] as const;
export type CutMode = (typeof CUTS)[number];

/**
 * What becomes of disks that guests can write to.
 *
 *     leave      they are no part of epochs: a checkpoint warns of them, background capture refuses them
 *     snapshot   background captures, all stopped, freeze them at the cut (proxy/member/qemu/disks.ts)
 */
export const DISK_MODES = ['leave', 'snapshot'] as const;
export type DiskMode = (typeof DISK_MODES)[number];

/**
 * Which of a VM's memory is joined into huge pages again when a background capture has split it
 * (proxy/member/capture/huge-pages.ts).
 *
 *     auto    what the guest uses; and the rest while the host has plenty of memory
 *     used    what the guest uses
 *     all     what it does not use, too, which then takes memory
 *     leave   none: the kernel does it in its time
 */
export const HUGE_PAGE_MODES = ['auto', 'used', 'all', 'leave'] as const;
export type HugePageMode = (typeof HUGE_PAGE_MODES)[number];
