/**
 * cluster.yaml: what the operator writes, checked whole before anything is started.
 *
 *     text ─▶ text.ts ─▶ schema.ts ─▶ members.ts, rules.ts ─▶ resolve.ts ─▶ ClusterConfig
 *             YAML       each option  options together        paths, quantities
 *
 * README.md has an example, and the reference of all options.
 */
import { join, resolve } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import type { ClusterConfig } from '../protocol/cluster.ts';
import { resolveMembers } from './members.ts';
import { NAME, NAME_HELP } from './option.ts';
import { configError, describeIssue } from './problems.ts';
import { resolveCluster, resolvePaths } from './resolve.ts';
import { contradictions, overlaps } from './rules.ts';
import { type ClusterFile, clusterSchema } from './schema.ts';
import { parseText } from './text.ts';

/**
 * Returns the folder of a cluster.
 * @param home holds one folder for each cluster
 * @throws UmbraError E_CONFIG for what is no cluster's name
 */
export function clusterDirectory(home: string, cluster: string): string {
  if (!NAME.test(cluster)) {
    const message = `${JSON.stringify(cluster)} is no cluster name: it ${NAME_HELP}`;
    throw new UmbraError({ code: 'E_CONFIG', message });
  }
  return join(home, cluster);
}

/** The text of a cluster.yaml, and where it is from. */
export interface ConfigSource {
  readonly text: string;
  /** Path of the file: relative paths inside are relative to its folder. */
  readonly file: string;
  /** Holds one folder for each cluster. */
  readonly home: string;
}

/** A cluster.yaml that is right: what it says, and what it means. */
export interface ParsedCluster {
  /** As it was written. */
  readonly written: unknown;
  readonly parsed: ClusterFile;
  readonly config: ClusterConfig;
}

/** Returns the configuration that a cluster.yaml means. @throws UmbraError as parseCluster */
export function parseClusterConfig(text: string, file: string, home: string): ClusterConfig {
  return parseCluster({ text, file, home }).config;
}

/**
 * Parses, checks and resolves a cluster.yaml.
 * @throws UmbraError E_CONFIG, naming every problem by its line and path in the file
 */
export function parseCluster({ text, file, home }: ConfigSource): ParsedCluster {
  const yaml = parseText(text);
  if (yaml.problems !== undefined) throw configError(file, yaml.problems);
  const { value, lineOf } = yaml;
  const parsed = clusterSchema.safeParse(value);
  if (!parsed.success) {
    const problems = parsed.error.issues.flatMap((issue) => describeIssue(issue, value));
    throw configError(file, problems, lineOf);
  }
  const directory = clusterDirectory(home, parsed.data.cluster);
  const base = resolve(file, '..');
  const { members, problems } = resolveMembers(parsed.data.members, directory, base);
  const paths = resolvePaths(parsed.data, directory, base);
  const all = [...problems, ...contradictions(parsed.data), ...overlaps(paths)];
  if (all.length > 0) throw configError(file, all, lineOf);
  const config = resolveCluster(parsed.data, paths, members);
  return { written: value, parsed: parsed.data, config };
}
