/**
 * The configuration of a cluster while its daemon runs.
 *
 * All parts of the daemon share one `ClusterConfig` and look at it when they need it. A reload
 * changes what is in it, between rounds; members, names and folders stay as they were.
 */
import { clusterChanges } from '../config/changes.ts';
import { type ConfigSource, type ParsedCluster, parseCluster } from '../config/config.ts';
import type { ClusterConfig } from '../protocol/cluster.ts';
import type { ChangedOption } from '../protocol/reload.ts';

export class LiveConfig {
  /** Shared by all parts. */
  readonly config: ClusterConfig;
  readonly #home: string;
  #present: ParsedCluster;

  /** @throws UmbraError E_CONFIG */
  constructor(source: ConfigSource) {
    this.#present = parseCluster(source);
    this.config = structuredClone(this.#present.config);
    this.#home = source.home;
  }

  /** Reads what is to be taken up. @throws UmbraError E_CONFIG, E_RELOAD_FIXED */
  read({ text, file }: Pick<ConfigSource, 'text' | 'file'>): ParsedCluster {
    const next = parseCluster({ text, file, home: this.#home });
    clusterChanges(this.#present, next);
    return next;
  }

  /**
   * Changes what all parts share. No round may be under way.
   * @param keep stores the file for later lives of the daemon; nothing has changed if it fails
   * @throws UmbraError E_RELOAD_FIXED
   */
  takeUp(next: ParsedCluster, keep: () => void): readonly ChangedOption[] {
    const changed = clusterChanges(this.#present, next);
    keep();
    const { round, store, schedule, epochs, persist, restore } = structuredClone(next.config);
    const { config } = this;
    // Some parts have been given a section: it stays the same object.
    Object.assign(config.round, round);
    Object.assign(config.store, store);
    Object.assign(config.epochs, epochs);
    Object.assign(config.restore, restore);
    if (config.persist !== undefined) Object.assign(config.persist, persist);
    Object.assign(config, { schedule });
    this.#present = next;
    return changed;
  }
}
