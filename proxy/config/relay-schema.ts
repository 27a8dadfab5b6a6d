/**
 * The shape of relay.yaml, each option by itself: types, units, bounds, defaults, help. PURE.
 *
 * An option that cluster.yaml has, too, is called the same. relay-config.ts finds options that
 * contradict each other.
 */
import * as z from 'zod';
import { toFailure } from '../failure/failure.ts';
import { parseAddress } from '../host/address.ts';
import { durationMsSchema, roundConfigSchema, slotMsSchema } from '../protocol/round-settings.ts';
import { duration, name, OPTION_HELP, size, text } from './option.ts';

/** A destination that loads device state reads nothing for a moment. */
const STALL_LIMIT_MS_MIN = 1_000;
const COUNT_MAX = 10_000;
const ROUTES_MAX = 1_000;
const ORDERS = ['in-order', 'round-robin', 'finish-together'] as const;

/** Defaults of options that have an effect only together with another, and so may be absent. */
export const RELAY_DEFAULTS = {
  order: 'in-order',
  slotMs: 1_000,
  inFlightBytes: 16 * 2 ** 20,
  headroomBytes: 256 * 2 ** 20,
  keep: 2,
} as const;

const WITH_STORE = 'with store.directory';

const address = z
  .string('must be tcp://HOST:PORT or unix:///PATH')
  .transform((spelled, context) => {
    try {
      return parseAddress(spelled);
    } catch (error) {
      context.addIssue({ code: 'custom', message: toFailure(error, {}).message });
      return z.NEVER;
    }
  });

const count = z
  .int('must be a whole number, from 1')
  .min(1, 'must be at least 1')
  .max(COUNT_MAX, `must be at most ${COUNT_MAX}`);

const routeOptions = z.strictObject({
  name: name.optional().register(OPTION_HELP, {
    policy: 'relay',
    unit: '1 to 32 of a-z, 0-9 and "-"',
    usual: 'vm0, vm1, … by its place in the list',
    effect: 'The name of the VM whose migrations come this way. Its epochs carry it.',
  }),
  listen: address.register(OPTION_HELP, {
    policy: 'relay',
    unit: 'tcp://HOST:PORT or unix:///PATH',
    usual: 'none; needed',
    effect: 'The address on which migrations are accepted: the source is told to migrate there.',
  }),
  to: address.register(OPTION_HELP, {
    policy: 'relay',
    unit: 'tcp://HOST:PORT or unix:///PATH',
    usual: 'none; needed',
    effect: 'The address of their destination.',
  }),
});

const migrationsOptions = z.strictObject({
  atOnce: count.optional().register(OPTION_HELP, {
    policy: 'relay',
    unit: 'migrations, at least 1',
    usual: 'none: all flow at once',
    effect:
      'How many migrations flow at once. The VMs of the others run on, and a page they rewrite ' +
      'meanwhile is sent once.',
  }),
  order: z
    .enum(ORDERS)
    .optional()
    .register(OPTION_HELP, {
      policy: 'relay',
      unit: 'in-order, round-robin or finish-together',
      usual: `${RELAY_DEFAULTS.order}, with migrations.atOnce`,
      effect:
        'Which migrations flow. in-order: those that came first, each from beginning to end. ' +
        'round-robin: all in turn. finish-together: those with the most still to send.',
    }),
  slot: duration.pipe(slotMsSchema).optional().register(OPTION_HELP, {
    policy: 'relay',
    unit: 'duration, at least 50ms',
    quantity: 'duration',
    usualValue: RELAY_DEFAULTS.slotMs,
    usual: 'with migrations.atOnce',
    effect: 'How long a turn lasts, with round-robin and finish-together.',
  }),
  inFlight: size
    .pipe(roundConfigSchema.shape.inFlightBytes)
    .optional()
    .register(OPTION_HELP, {
      policy: 'relay',
      unit: 'size, 1MiB to 1GiB, for each migration',
      quantity: 'size',
      usualValue: RELAY_DEFAULTS.inFlightBytes,
      usual: WITH_STORE,
      effect:
        'The most of a stream that is kept aside until its shadow begins; beyond it, the ' +
        'migration is stopped, its VM running. It counts against store.budget.',
    }),
});

const storeOptions = z.strictObject({
  directory: text.min(1).optional().register(OPTION_HELP, {
    policy: 'relay',
    unit: 'folder, best on tmpfs',
    usual: 'none: no shadows are kept',
    effect: 'Where a shadow of each VM that passes is kept, as an epoch. One relay a folder.',
  }),
  budget: size
    .refine((bytes) => bytes > 0, 'must be more than zero')
    .optional()
    .register(OPTION_HELP, {
      policy: 'relay',
      unit: 'size',
      usual: 'none: what the host has, less store.headroom',
      effect:
        'The most memory that shadows take, with what is in flight. A VM for which there is no ' +
        'room passes without a shadow; its report says so.',
    }),
  headroom: size.optional().register(OPTION_HELP, {
    policy: 'relay',
    unit: 'size',
    quantity: 'size',
    usualValue: RELAY_DEFAULTS.headroomBytes,
    usual: WITH_STORE,
    effect: 'Memory of the host that must stay free after a shadow has reserved its own.',
  }),
});

export const relaySchema = z.strictObject({
  routes: z
    .array(routeOptions, 'must list at least one route: {listen: …, to: …}')
    .min(1, 'must list at least one route: {listen: …, to: …}')
    .max(ROUTES_MAX),
  migrations: migrationsOptions.prefault({}),
  stallLimit: duration
    .pipe(durationMsSchema)
    .refine((ms) => ms >= STALL_LIMIT_MS_MIN, 'must be at least 1s')
    .default(30_000)
    .register(OPTION_HELP, {
      policy: 'relay',
      unit: 'duration, at least 1s',
      quantity: 'duration',
      effect: 'A migration fails if one side takes no byte for so long; its VM runs on.',
    }),
  store: storeOptions.prefault({}),
  epochs: z
    .strictObject({
      keep: count.optional().register(OPTION_HELP, {
        policy: 'relay',
        unit: 'epochs, at least 1',
        usualValue: RELAY_DEFAULTS.keep,
        usual: WITH_STORE,
        effect: 'How many epochs are kept of each VM, newest first.',
      }),
    })
    .prefault({}),
  report: text.min(1).optional().register(OPTION_HELP, {
    policy: 'relay',
    unit: 'folder',
    usual: 'none',
    effect: 'Where a report of each migration is written.',
  }),
});

/** A file whose every option is right by itself. */
export type RelayFile = z.infer<typeof relaySchema>;
