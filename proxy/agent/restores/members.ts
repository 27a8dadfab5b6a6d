import { UmbraError } from '../../failure/failure.ts';
import type { ClusterConfig, MemberConfig } from '../../protocol/cluster.ts';

/**
 * Returns the member of a cluster that is to be restored from an epoch's member of that name.
 * @throws UmbraError E_MEMBER_UNKNOWN: the epoch is older than the configuration, or of another
 * cluster
 */
export function requireMember({ members }: ClusterConfig, name: string): MemberConfig {
  const member = members.find((one) => one.name === name);
  if (member !== undefined) return member;
  const message = `the epoch has a member ${name}, this cluster has not`;
  throw new UmbraError({ code: 'E_MEMBER_UNKNOWN', message, member: name });
}
