/**
 * The machine that a QEMU ran when its memory was captured, as QEMU itself has it. Its command line
 * is not the machine: a monitor's client plugs devices in, takes them out and changes media.
 */
import * as z from 'zod';

const deviceSchema = z.object({
  /** Empty for a device without id. */
  id: z.string().max(1024),
  driver: z.string().max(256),
  /** Plugged in after QEMU had started: no option of its command line made it. */
  plugged: z.boolean(),
});

const mediumSchema = z.object({
  /** QEMU's name for the drive, such as `ide1-cd0`. */
  drive: z.string().max(1024),
  /** The file in it; empty for a drive without a medium. */
  file: z.string().max(4096),
});

export const machineSchema = z.object({
  /** QEMU's full machine type, such as `pc-i440fx-7.2`. */
  type: z.string().max(256),
  /** The id of the memory backend of main RAM; empty where NUMA nodes have their own. */
  mainRam: z.string().max(1024),
  /** A device gives back memory that its guest does not use. */
  balloon: z.boolean(),
  /** Devices that options or a monitor's client have made. */
  devices: z.array(deviceSchema).max(10_000).readonly(),
  /** Ids of network backends with state of their own in the stream: those of type `user`. */
  statefulNetworks: z.array(z.string().max(1024)).max(1024).readonly(),
  /** Its virtio queues are larger than its devices ask for (Debian's QEMU 10.0.13). */
  largeQueues: z.boolean().optional(),
  /** Drives whose medium can be changed. */
  media: z.array(mediumSchema).max(1024).readonly(),
});

export type Machine = Readonly<z.infer<typeof machineSchema>>;
