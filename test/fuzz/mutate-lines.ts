/** Changes of lines of JSON, each still a line of JSON. PURE. */
import { mutateJson } from './mutate-json.ts';

/** Changes, doubles or removes one line, or moves it to the end. */
export function mutateLines(input: Buffer, random: () => number): Buffer {
  const lines = input.toString('utf8').split('\n');
  const at = Math.floor(random() * lines.length);
  const line = lines[at] ?? '';
  const how = Math.floor(random() * 6);
  if (how === 0) lines.splice(at, 0, line);
  else if (how === 1) lines.splice(at, 1);
  else if (how === 2) lines.push(...lines.splice(at, 1));
  else lines[at] = mutateLine(line, random);
  return Buffer.from(lines.join('\n'));
}

/** Changes the JSON in a line; a line without JSON is returned as it is. */
export function mutateLine(line: string, random: () => number): string {
  const start = line.indexOf('{');
  try {
    const value: unknown = JSON.parse(line.slice(start));
    return line.slice(0, start) + JSON.stringify(mutateJson(value, random));
  } catch {
    return line;
  }
}
