#!/usr/bin/env node
/**
 * The umbra command: its subcommands and options. Each subcommand is in the file of its area.
 *
 * A file is loaded when its command is called: loading all of them would take longer than most
 * commands run.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { POLICY_NAMES } from '../../proxy/config/policy-names.ts';
import { toFailure } from '../../proxy/failure/failure.ts';
import { packageFolder } from '../../proxy/host/program.ts';
import type { RestoreOptions } from '../../proxy/protocol/operator.ts';
import type { ExportFlags } from './export.ts';
import { Output } from './output.ts';
import type { RelayFlags } from './relay-options.ts';

const USAGE_ERROR = 2;

interface GlobalOptions {
  readonly json?: boolean;
  readonly cluster?: string;
}

interface RestoreFlags {
  readonly mode?: RestoreOptions['mode'];
  readonly clock?: RestoreOptions['clock'];
  readonly replace: boolean;
  readonly verify: boolean;
  readonly qemu: RestoreOptions['qemu'];
  readonly from: RestoreOptions['from'];
  readonly as?: string;
  readonly disconnect: boolean;
  readonly store?: string;
  readonly member?: string;
  readonly xml?: string;
}

const program = new Command('umbra')
  .description('Live, consistent, in-memory checkpoints of whole virtual clusters')
  .version(version())
  .configureHelp({ showGlobalOptions: true })
  .exitOverride();

function command(flags: string, description: string): Command {
  return program
    .command(flags)
    .description(description)
    .option('--json', 'print the result as JSON')
    .option('-c, --cluster <name>', 'the cluster; may be left out when there is only one')
    .exitOverride();
}

command('up', 'start a cluster: its VMs (those with a command), their proxies, its daemon')
  .argument('[file]', 'cluster.yaml; without it, the daemon of a known cluster is started again')
  .option('--no-boot', 'start no VM, such as before a restore')
  .action(async (file: string | undefined, options: GlobalOptions & { boot: boolean }) => {
    const cluster = file === undefined ? await clusterOf(options) : '';
    const { up } = await import('./cluster.ts');
    await up(file, cluster, options.boot, outputOf(options));
  });

command('attach', 'make a cluster of VMs that already run')
  .argument(
    '<places...>',
    'their QMP sockets, PATH or NAME=PATH; or a libvirt’s URI, for its domains',
  )
  .action(async (places: string[], options: GlobalOptions) => {
    const { attach } = await import('./attach.ts');
    await attach(options.cluster ?? 'default', places, outputOf(options));
  });

command('status', 'show members, epochs and the job under way').action(
  async (options: GlobalOptions) => {
    const { status } = await import('./status.ts');
    await status(await clusterOf(options), outputOf(options));
  },
);

command('checkpoint', 'take a consistent checkpoint of the whole cluster')
  .option('--prove', 'load it into throw-away QEMUs before it is committed')
  .action(async (options: GlobalOptions & { prove?: true }) => {
    const { checkpoint } = await import('./rounds.ts');
    const { prove } = options;
    await checkpoint(
      await clusterOf(options),
      prove === undefined ? {} : { prove },
      outputOf(options),
    );
  });

command('epochs', 'list epochs: age, pins, memory of their own and shared').action(
  async (options: GlobalOptions) => {
    const { epochs } = await import('./epochs.ts');
    await epochs(await clusterOf(options), outputOf(options));
  },
);

command('pin', 'keep an epoch, whatever epochs.keep and keepFor say')
  .argument('<epoch>', 'its number', epochNumber)
  .option('--off', 'unpin it', false)
  .action(async (epoch: number, options: GlobalOptions & { off: boolean }) => {
    const { pinEpoch } = await import('./epochs.ts');
    await pinEpoch(await clusterOf(options), epoch, !options.off, outputOf(options));
  });

command('reload', 'take up changed budgets and policies of a file, while its daemon or relay runs')
  .argument(
    '[file]',
    'cluster.yaml or relay.yaml; without it, the one the cluster was started with',
  )
  .action(async (file: string | undefined, options: GlobalOptions) => {
    const { reload } = await import('./reload.ts');
    await reload(file, options.cluster, outputOf(options));
  });

command('untrack', 'let go of a VM whose writes are tracked, so that QEMU can snapshot it')
  .argument('<member>', 'its name')
  .action(async (member: string, options: GlobalOptions) => {
    const { untrack } = await import('./untrack.ts');
    await untrack(await clusterOf(options), member, outputOf(options));
  });

command('report', 'show what a round cost and why: time, bytes, passes, predictions')
  .argument('[round]', 'its name; the newest if left out', 'last')
  .option('--svg <file>', 'draw it as a timeline, members as lanes')
  .option('--list', 'list the rounds that have reports', false)
  .action(async (round: string, options: GlobalOptions & { svg?: string; list: boolean }) => {
    const { svg, list } = options;
    const cluster = await clusterOf(options);
    const { report } = await import('./rounds.ts');
    await report(cluster, { round, svg, list }, outputOf(options));
  });

command('restore', 'bring the cluster back as it was in an epoch, or (--as) a second one beside it')
  .argument('[epoch]', 'its number; the newest if left out', epochNumber)
  .addOption(
    new Option('--mode <mode>', 'how RAM gets into the VM').choices(['auto', 'map', 'stream']),
  )
  .addOption(
    new Option('--clock <how>', 'catch-up: guest agents set the wall clocks').choices([
      'keep',
      'catch-up',
    ]),
  )
  .addOption(
    new Option('--from <place>', 'disk: do not trust what is in memory')
      .choices(['auto', 'disk'])
      .default('auto'),
  )
  .option('--replace', 'kill members that still run', false)
  .addOption(
    new Option('--qemu <which>', 'recorded: the QEMU that the VMs ran on, whatever is installed')
      .choices(['installed', 'recorded'])
      .default('installed'),
  )
  .option('--verify', 'read every byte of the epoch first', false)
  .addOption(
    new Option(
      '--as <name>',
      'as another cluster, a clone, while this one keeps running',
    ).conflicts('replace'),
  )
  .option('--disconnect', 'with --as: unplug network cards the clone cannot isolate', false)
  .addOption(
    new Option(
      '--store <folder>',
      'one VM, as a relay kept it there (umbra relay --shadow)',
    ).conflicts(['as', 'from']),
  )
  .option('--member <name>', 'with --store: the member that VM is; by default, of its name')
  .option('--xml <file>', 'with --store: XML of the domain; by default, what libvirt has')
  .action(async (epoch: number | undefined, options: GlobalOptions & RestoreFlags) => {
    const { mode, clock, replace, verify, qemu, from, as, disconnect } = options;
    const { store, member, xml } = options;
    if (store === undefined && (member !== undefined || xml !== undefined)) {
      program.error('error: --member and --xml are for an epoch of a relay; give --store, too');
    }
    const cluster = await clusterOf(options);
    const output = outputOf(options);
    if (as !== undefined) {
      const { clone } = await import('./clone.ts');
      await clone(cluster, as, { epoch, mode, clock, verify, qemu, disconnect }, output);
    } else {
      if (disconnect) program.error('error: --disconnect is for clones; give --as, too');
      const { restore } = await import('./restore.ts');
      const relayed = { store, member, xml };
      const how = { mode, clock, replace, verify, qemu, from };
      await restore(cluster, { epoch, ...how, ...relayed }, output);
    }
  });

command('verify', 'read every byte of an epoch and compare it with its digest')
  .argument('<epoch>', 'its number', epochNumber)
  .action(async (epoch: number, options: GlobalOptions) => {
    const { verifyEpoch } = await import('./epochs.ts');
    await verifyEpoch(await clusterOf(options), epoch, outputOf(options));
  });

command('rm', 'remove an epoch that is not pinned, and free its memory')
  .argument('<epoch>', 'its number', epochNumber)
  .action(async (epoch: number, options: GlobalOptions) => {
    const { removeEpoch } = await import('./epochs.ts');
    await removeEpoch(await clusterOf(options), epoch, outputOf(options));
  });

command('down', 'stop the cluster: its daemon, and the VMs Umbra started')
  .option('--keep-vms', 'leave the VMs running', false)
  .option('--purge', 'remove its epochs and its folder, too', false)
  .action(async (options: GlobalOptions & { keepVms: boolean; purge: boolean }) => {
    const { keepVms, purge } = options;
    const { down } = await import('./teardown.ts');
    await down(await clusterOf(options), { keepVms, purge }, outputOf(options));
  });

command('export', 'write an epoch as save images for virsh restore')
  .argument('<epoch>', 'its number', epochNumber)
  .requiredOption('--libvirt <folder>', 'folder for the images, MEMBER.save')
  .option(
    '--store <folder>',
    'take the epoch of a relay (umbra relay --shadow) instead of a cluster',
  )
  .option(
    '--xml <file>',
    'domain XML for VMs that libvirt did not run; MEMBER=FILE for each',
    collect,
  )
  .action(async (epoch: number, options: GlobalOptions & ExportFlags) => {
    const { store } = options;
    const location = store === undefined ? { cluster: await clusterOf(options) } : { store };
    const { exportEpoch } = await import('./export.ts');
    await exportEpoch(location, epoch, options, outputOf(options));
  });

program
  .command('relay')
  .description(
    'pass migrations on from source to destination, and report them; an option given beside ' +
      'relay.yaml takes the place of the file’s (umbra explain relay)',
  )
  .argument('[file]', 'relay.yaml; without it, --listen and --to name the routes')
  .option('--listen <address>', 'address for incoming migrations: tcp://… or unix://…', collect)
  .option(
    '--to <address>',
    'address of their destination; one for each --listen, in order',
    collect,
  )
  .option('--name <name>', 'name of the VM on this route; one for each --listen, or none', collect)
  .option(
    '--stall-limit <duration>',
    'fail a migration if one side reads nothing for so long (default: 30s)',
  )
  .option('--at-once <count>', 'number of migrations that flow at once; others wait')
  .addOption(
    new Option('--order <order>', 'order of turns (default: in-order)').choices([
      'in-order',
      'round-robin',
      'finish-together',
    ]),
  )
  .option('--slot <duration>', 'length of a turn (default: 1s)')
  .option('--shadow <folder>', 'keep a shadow of each VM there, as an epoch; best on tmpfs')
  .option('--in-flight <size>', 'kept aside of a stream until its shadow begins (default: 16MiB)')
  .option('--budget <size>', 'limit of the memory of all shadows')
  .option('--headroom <size>', 'memory of the host that must stay free (default: 256MiB)')
  .option('--keep <count>', 'number of epochs to keep of each VM (default: 2)')
  .option('--report <folder>', 'folder for a report of each migration')
  .option('--json', 'print reports as JSON, one a line')
  .exitOverride()
  .action(async (file: string | undefined, options: GlobalOptions & RelayFlags) => {
    const { listen = [], to = [] } = options;
    if (file === undefined && listen.length + to.length === 0) {
      program.error('error: give relay.yaml, or --listen and --to');
    }
    const { relay } = await import('./relay.ts');
    if (!(await relay(file, options, outputOf(options)))) process.exitCode = 1;
  });

command('explain', 'explain the options of cluster.yaml and relay.yaml')
  .argument('[policy]', `one of: ${POLICY_NAMES.join(', ')}; or an option, as restore.mode`)
  .action(async (policy: string | undefined, options: GlobalOptions) => {
    const { explain } = await import('./explain.ts');
    explain(policy, outputOf(options));
  });

command('doctor', 'check what Umbra needs on this host, and how to get what is missing').action(
  async (options: GlobalOptions) => {
    const { doctor } = await import('./doctor.ts');
    if (!(await doctor(outputOf(options)))) process.exitCode = 1;
  },
);

program
  .command('serve', { hidden: true })
  .requiredOption('-c, --cluster <name>')
  .option('--boot', '', false)
  .action(async ({ cluster, boot }: { cluster: string; boot: boolean }) => {
    const { serve } = await import('./serve.ts');
    await serve(cluster, boot);
  });

/** Returns the cluster that a command is for. @throws UmbraError E_CLUSTER_UNKNOWN */
async function clusterOf({ cluster }: GlobalOptions): Promise<string> {
  const { chooseCluster } = await import('./home.ts');
  return chooseCluster(cluster);
}

function outputOf(options: GlobalOptions): Output {
  return new Output(options.json === true);
}

function epochNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('An epoch is a whole number, from 1.');
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function version(): string {
  const text = readFileSync(join(packageFolder(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE_ERROR;
  } else {
    new Output(process.argv.includes('--json')).failure(toFailure(error, {}));
    process.exitCode = 1;
  }
}
