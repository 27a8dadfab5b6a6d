/**
 * Options that a VM takes from a file (`-readconfig`), as options of a command line. PURE.
 *
 *     [device "nic0"]                       -device driver=virtio-net-pci,id=nic0,netdev=net0
 *       driver = "virtio-net-pci"      ─▶
 *       netdev = "net0"
 *     [machine]                             -machine type=pc
 *       type = "pc"
 *
 * The form is that of util/qemu-config.c (qemu_config_foreach): a value is in quotes and has no
 * escapes.
 */
import { optionsOf, type QemuOption } from './option-list.ts';

/** Returns the files of options that a command line names. */
export function configFiles(commandLine: readonly string[]): string[] {
  return optionsOf(commandLine).flatMap(({ name, value = '' }) => {
    return name === 'readconfig' ? [value] : [];
  });
}

/** Returns the options in the text of a file. What has another form is left out. */
export function parseConfig(text: string): QemuOption[] {
  const options: { readonly name: string; readonly properties: string[] }[] = [];
  const property = (key: string, value: string) => `${key}=${value.replaceAll(',', ',,')}`;
  for (const line of text.split('\n')) {
    const [, name, id] = /^\s*\[\s*([\w-]+)(?:\s+"([^"]*)")?\s*\]/.exec(line) ?? [];
    const [, key, value = ''] = /^\s*([\w.-]+)\s*=\s*"([^"]*)"/.exec(line) ?? [];
    if (name !== undefined) {
      options.push({ name, properties: id === undefined ? [] : [property('id', id)] });
    } else if (key !== undefined) {
      options.at(-1)?.properties.push(property(key, value));
    }
  }
  return options.map(({ name, properties }) => ({ name, value: properties.join(',') }));
}
