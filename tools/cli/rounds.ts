/** `umbra checkpoint` and `umbra report`. */
import { writeFileSync } from 'node:fs';
import { UmbraError } from '../../proxy/failure/failure.ts';
import type { CheckpointRequest } from '../../proxy/protocol/operator.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { withDaemon } from './daemon.ts';
import { storedConfig } from './home.ts';
import type { Output } from './output.ts';
import { ensureDaemon } from './processes.ts';
import { roundText } from './reports.ts';
import { progressView } from './round-progress.ts';
import { timelineSvg } from './timeline-svg.ts';

/** Takes a checkpoint. @throws UmbraError the failure of the round, unless it is printed as JSON */
export async function checkpoint(
  cluster: string,
  request: CheckpointRequest,
  output: Output,
): Promise<RoundReport> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  const view = progressView(process.stdout, output.json);
  const report = await withDaemon(config, (daemon) =>
    daemon.follow('checkpoint', { body: request }, (progress) => {
      if (progress.kind === 'queued') view.queued(progress.why);
      else view.show(progress);
    }),
  ).finally(() => view.stop());
  output.result(report, report.failure === undefined ? roundText(report) : '');
  if (report.failure !== undefined && !output.json) throw UmbraError.received(report.failure);
  if (report.failure !== undefined) process.exitCode = 1;
  return report;
}

export interface ReportArguments {
  readonly round: string;
  readonly svg: string | undefined;
  readonly list: boolean;
}

/** Prints the report of a round, or names the rounds there are reports of. */
export async function report(
  cluster: string,
  { round, svg, list }: ReportArguments,
  output: Output,
): Promise<void> {
  const config = storedConfig(cluster);
  await ensureDaemon(config, false);
  await withDaemon(config, async (daemon) => {
    if (list) {
      const answer = await daemon.ask('rounds', {});
      output.result(answer, answer.rounds.join('\n') || 'no round was run yet');
      return;
    }
    const found = await daemon.ask('report', { params: { round } });
    if (svg !== undefined) writeFileSync(svg, timelineSvg(found));
    output.result(found, roundText(found));
  });
}
