/** What every policy option means, for the documentation and for `umbra explain`. */

export interface OptionHelp {
  /** As it is written in cluster.yaml. */
  readonly option: string;
  readonly unit: string;
  readonly default: string;
  readonly effect: string;
}

const NONE = '–';

export const POLICIES: Readonly<Record<string, readonly OptionHelp[]>> = {
  capture: [
    {
      option: 'round.capture',
      unit: 'background, precopy or stop-copy; a list of them; or auto',
      default: 'auto: background, precopy, stop-copy',
      effect:
        'how a member’s state is taken: the first that nothing stands in the way of, found by trying, and ' +
        'told. background: the VM stands for an instant, its memory is saved as it was while it runs on; ' +
        'precopy: memory streams while it runs, it stands for what is left; stop-copy: it stands for all',
    },
    {
      option: 'round.cut',
      unit: 'frames-held, all-stopped or auto',
      default: 'auto: frames-held where that can be, else all-stopped',
      effect:
        'what makes background captures one cut. frames-held: who has been cut runs on, and nothing it ' +
        'sends leaves before all have been; all-stopped: who has been cut stands until all have been',
    },
    {
      option: 'round.disks',
      unit: 'leave or snapshot',
      default: 'leave',
      effect:
        'leave: disks the guests can write to are no part of epochs; background capture refuses them, ' +
        'other captures warn. snapshot: background capture freezes them at the cut, all VMs standing, and ' +
        'VMs write to qcow2 layers beside them from then on; other captures are refused',
    },
    {
      option: 'round.hugePages',
      unit: 'auto, used, all or leave',
      default: 'auto',
      effect:
        'background capture splits a VM’s huge pages, and the next cut takes 25 ms for each GiB of small ones. ' +
        'used: after a round, the kernel is asked to join what the guest uses; all: what it does not use, too, ' +
        'so that a cut takes a few milliseconds whatever the VM’s size, and all its RAM is backed by memory; ' +
        'auto: what it uses, and the rest as long as an eighth of the host’s memory stays free, beside what a ' +
        'round takes, and the VM has no balloon; leave: the kernel joins them some day',
    },
    {
      option: 'round.compareEmulated',
      unit: 'true or false',
      default: 'true',
      effect:
        'a VM without KVM, by precopy: what it streamed is compared with its memory while it stands, some 0.5 s ' +
        'a GiB, for QEMU’s emulator can miss a dirtied page; what was missed is mended and told. false: its ' +
        'log is trusted. With KVM nothing is compared',
    },
    {
      option: 'round.stopDeadline',
      unit: 'duration',
      default: '10s',
      effect:
        'no VM stands for longer in a round that goes wrong, whatever dies: after four fifths of it the round ' +
        'is given up, and the rest is for having them run again',
    },
  ],
  'memory-budget': [
    {
      option: 'store.directory',
      unit: 'folder, on tmpfs',
      default: 'the cluster’s own',
      effect: 'where shadows are kept, in a folder a cluster',
    },
    {
      option: 'store.budget',
      unit: 'size',
      default: 'none: what the host has, less store.headroom',
      effect:
        'epochs + the round’s shadows (all RAM of a member, or what may differ from an earlier epoch) + ' +
        'in-flight never take more on this ' +
        'host; a round that would is not begun, and the bytes that are missing are named',
    },
    {
      option: 'store.headroom',
      unit: 'size',
      default: '256MiB',
      effect: 'stays free of the host’s memory after a round’s reservation',
    },
    {
      option: 'store.recycle',
      unit: 'true or false',
      default: 'true',
      effect:
        'keeps the memory of the epoch retired last for the next round, which then streams several ' +
        'times faster than into fresh memory. A round needs that memory in any case; umbra rm frees it',
    },
    {
      option: 'store.delta',
      unit: 'true or false',
      default: 'true',
      effect:
        'stores only pages that differ from an earlier epoch’s. What may differ beyond what a round ' +
        'reserves is counted against the budget as it comes; a round that outgrows it ends, the VMs run on',
    },
    {
      option: 'store.foldAt',
      unit: 'share of an epoch’s memory, more than 0',
      default: '0.5',
      effect:
        'an epoch that differs from its base by more is written anew in the background, whole, and later ' +
        'epochs are stored as what differs from it. That takes the memory of an epoch for as long as older ' +
        'ones need the old base',
    },
    {
      option: 'store.whenFull',
      unit: 'refuse or queue',
      default: 'refuse',
      effect: 'whether a round that does not fit is refused, or waits until epochs have gone',
    },
    {
      option: 'store.queueLimit',
      unit: 'duration',
      default: '5min, with whenFull: queue',
      effect: 'a queued round is refused after that time',
    },
    {
      option: 'round.inFlight',
      unit: 'size, for each member',
      default: '64MiB',
      effect:
        'the most its proxy keeps outside of the reserved shadow, which is device state: a VM with ' +
        'more of it is refused. Counted against the budget',
    },
  ],
  retention: [
    {
      option: 'epochs.keep',
      unit: 'epochs, at least 1',
      default: '2',
      effect:
        'so many stay, the newest by number; pinned ones count among them, and stay beyond. What is ' +
        'to go goes after a commit and before the next round asks for room',
    },
    {
      option: 'epochs.keepFor',
      unit: 'duration since the commit, at most 8760h',
      default: 'none: age is no reason to keep an epoch',
      effect:
        'epochs younger than that stay, however many: choose it with store.budget in mind, for a ' +
        'round that does not fit beside them is refused, or waits until one is old enough',
    },
    {
      option: 'umbra pin EPOCH',
      unit: NONE,
      default: 'not pinned',
      effect:
        'the epoch stays until umbra pin EPOCH --off, whatever its age and number; umbra rm refuses it',
    },
  ],
  'memory-bound': [
    {
      option: 'round.memoryBound',
      unit: 'multiple of a member’s RAM, at least 1',
      default: '2',
      effect:
        'no member streams more while it runs, and one that has ends the live phase, once the others ' +
        'have sent their memory: it always ends. Enforced where the stream is read, whatever the ' +
        'coordinator does',
    },
  ],
  multiplexing: [
    {
      option: 'round.multiplexing',
      unit: 'parallel, round-robin or finish-together',
      default: 'finish-together',
      effect:
        'whose streams flow at the same time until all have sent their memory once; the others run ' +
        'on, unread, and a page they rewrite meanwhile is sent once',
    },
    {
      option: 'parallel',
      unit: NONE,
      default: 'not chosen',
      effect:
        'all at once; members past their first pass stream on in round.dirtyShare of the slots',
    },
    {
      option: 'round-robin',
      unit: NONE,
      default: 'not chosen',
      effect: 'round.slots members at a time, for a round.slot each, in turn',
    },
    {
      option: 'finish-together',
      unit: NONE,
      default: 'the default',
      effect:
        'round.slots members at a time, those with the most still to send; the smallest comes last, ' +
        'when the others have caught up with what they rewrote: the least is left at the end',
    },
    {
      option: 'round.slots',
      unit: 'members, at least 1',
      default: '2',
      effect: 'how many streams flow at once, for round-robin and finish-together',
    },
    {
      option: 'round.slot',
      unit: 'duration, at least 50ms',
      default: '100ms',
      effect: 'how long a slot lasts; shorter ones share more evenly and cost more messages',
    },
    {
      option: 'round.dirtyShare',
      unit: 'share of the slots, more than 0, at most 1',
      default: '0.5',
      effect:
        'with parallel: how much of the time goes to pages sent before, while others still send ' +
        'theirs for the first time (MTD’s 50 dirty / 50 non-dirty)',
    },
  ],
  'end-condition': [
    {
      option: 'round.endWhen',
      unit: 'list of conditions; the first that holds ends the live phase of every member',
      default: '[all-first-pass]',
      effect: 'decides how much is left to send while the VMs stand: the later, the less',
    },
    {
      option: 'all-first-pass',
      unit: NONE,
      default: 'in the list',
      effect: 'ends when every member has sent all its memory once; the shortest checkpoint',
    },
    {
      option: 'any-first-pass',
      unit: NONE,
      default: 'not in the list',
      effect: 'ends when the first member has; the others send the rest while they stand',
    },
    {
      option: 'predicted-downtime T',
      unit: 'duration, less than round.stopDeadline',
      default: 'not in the list',
      effect: 'ends when the predicted cluster downtime is at most T',
    },
    {
      option: 'no-progress',
      unit: NONE,
      default: 'not in the list',
      effect:
        'ends when the predicted downtime falls no more: the slowest member dirties memory as fast ' +
        'as it streams, and waiting buys nothing. The shortest downtime a cluster can have',
    },
    {
      option: 'round.maxLive',
      unit: 'duration',
      default: '60s',
      effect: 'the live phase is brought to its end then, whatever the rest says',
    },
  ],
  'durable-tier': [
    {
      option: 'persist.to',
      unit: 'folder on a disk',
      default: 'none: epochs live in memory only',
      effect:
        'every committed epoch is brought there, compressed and checksummed, in a folder of the ' +
        'cluster’s name; umbra restore takes it from there when it is not in memory',
    },
    {
      option: 'persist.mode',
      unit: 'background or before-commit',
      default: 'background',
      effect:
        'background: the epoch stands when it is in memory, and is brought to disk while the job ' +
        'runs; a failure is told and tried again. before-commit: it stands when it is on disk, too; ' +
        'a failure aborts the round. The VMs run in both',
    },
    {
      option: 'persist.rate',
      unit: 'size, a second',
      default: 'none: what disk and idle cores take',
      effect: 'content read from memory a second, before it is compressed, all members together',
    },
    {
      option: 'persist.parallel',
      unit: 'members, 1 to 64',
      default: '2',
      effect: 'how many members are brought to disk at once, at the lowest priority there is',
    },
    {
      option: 'persist.keep',
      unit: 'epochs, at least 1',
      default: 'as epochs.keep',
      effect: 'older ones are removed from disk, each when a newer one is whole there',
    },
    {
      option: 'persist.timeLimit',
      unit: 'duration',
      default: '10min, with mode: before-commit',
      effect: 'a round waits so long for the disk, then it is aborted; the VMs run meanwhile',
    },
  ],
  restore: [
    {
      option: 'restore.mode',
      unit: 'map, stream or auto',
      default: 'auto: map where the VM allows it',
      effect:
        'map: the VM maps its memory from the epoch, in milliseconds, and keeps that memory for as long as ' +
        'it runs; stream: all of it is sent into a VM with memory of its own',
    },
  ],
  network: [
    {
      option: 'network.switch',
      unit: 'paths of unix sockets',
      default: 'none',
      effect: 'Umbra’s own switch connects these -netdev stream sockets of the members',
    },
  ],
  interval: [
    {
      option: 'checkpoint.every',
      unit: 'duration, at least 1s, or optimal',
      default: 'none: a checkpoint is taken when asked for',
      effect:
        'takes checkpoints by itself, so long after the last one ended. optimal is Daly’s interval, ' +
        'from what a checkpoint costs and checkpoint.mtbf',
    },
    {
      option: 'checkpoint.mtbf',
      unit: 'duration',
      default: 'none; needed by every: optimal',
      effect: 'mean time between failures of the hosts the cluster runs on, all of them together',
    },
    {
      option: 'checkpoint.liveSlowdown',
      unit: 'share of the job’s speed, 0 to 1',
      default: '0.25',
      effect:
        'with every: optimal, a checkpoint costs its downtime and this share of its live phase: what ' +
        'the job loses while memory streams',
    },
  ],
};
