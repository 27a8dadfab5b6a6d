/** The machine type in a command line: `-machine pc,accel=kvm`, `-M accel=kvm,type=pc`. PURE. */
import { optionsOf, type QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/**
 * Returns the machine type that a command line asks for, an alias (`pc`) or a full name.
 * @returns undefined when the choice is left to QEMU
 */
export function machineTypeOf(commandLine: readonly string[]): string | undefined {
  for (const option of optionsOf(commandLine)) {
    const type = typeIn(option);
    if (type !== undefined) return type;
  }
  return undefined;
}

/** Returns the options with another machine type, which is the first property of its option. */
export function withMachineType(options: readonly QemuOption[], machineType: string): QemuOption[] {
  if (options.every((option) => typeIn(option) === undefined)) {
    // The last one counts, and a file of options may name a type, too.
    return [...options, { name: 'machine', value: machineType }];
  }
  return options.map((option) => {
    if (typeIn(option) === undefined) return option;
    const value = new OptionValue(option.value ?? '', 'type');
    value.delete('type');
    value.setFirst('type', machineType);
    return { name: option.name, value: value.format() };
  });
}

function typeIn({ name, value = '' }: QemuOption): string | undefined {
  if (name !== 'machine' && name !== 'M') return undefined;
  const type = new OptionValue(value, 'type').get('type');
  return type === '' ? undefined : type;
}
