/** A place in a source file that breaks a rule of the house. PURE. */
export interface Finding {
  /** Line in the file, from 1. */
  readonly line: number;
  readonly rule: 'columns' | 'docstring' | 'persons' | 'spread' | 'glossary';
  /** What is wrong and what to write instead. */
  readonly message: string;
}

/** Returns the line a character of a text is in, from 1. */
export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}
