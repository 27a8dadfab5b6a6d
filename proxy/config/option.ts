/**
 * Parts that options of cluster.yaml and relay.yaml are made of: names, quantities as text, and
 * help. PURE.
 */
import * as z from 'zod';
import type { PolicyName } from './policy-names.ts';
import { DURATION_HELP, parseDuration, parseSize, SIZE_HELP } from './units.ts';

/**
 * Help on an option, beside its schema: `umbra explain` and the reference are printed from both.
 */
export interface OptionHelp {
  /** `members`: what a cluster is made of; in the reference only. */
  readonly policy: PolicyName | 'members';
  /** Values it takes, and their unit. */
  readonly unit: string;
  readonly effect: string;
  /** The text that explains the default, or says what holds without one. */
  readonly usual?: string;
  /** The default of an option that has one only together with another. */
  readonly usualValue?: number;
  /** The way numbers are written; by default plain. */
  readonly quantity?: 'size' | 'duration';
  /** Effects of values that need an entry of their own, by value. */
  readonly values?: Readonly<Record<string, string>>;
}

/** Help on every option, by its schema. */
export const OPTION_HELP = z.registry<OptionHelp>();

/** Names become folders, socket paths and labels. */
export const NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;
export const NAME_HELP = 'must be 1 to 32 of a-z, 0-9 and "-", and not begin or end with "-"';
export const name = z.string().regex(NAME, NAME_HELP);

/** Paths and arguments: the kernel ends them at a NUL. */
export const text = z.string().refine((value) => !value.includes('\0'), 'must not hold a NUL');

/**
 * Makes a schema of text that is parsed.
 * @param parse returns undefined for text that is no such value
 * @param help what the text must be, for the operator
 */
export function parsed<T>(parse: (text: string) => T | undefined, help: string) {
  return z.string(`must be ${help}`).transform((value, context) => {
    const found = parse(value);
    if (found !== undefined) return found;
    const message = `must be ${help}; found ${JSON.stringify(value)}`;
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

/** Bytes, written as a size. */
export const size = parsed(parseSize, SIZE_HELP);

/** Milliseconds, written as a duration. */
export const duration = parsed(parseDuration, DURATION_HELP);
