// The results as a page of Markdown and a chart.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { join } from 'node:path';

import { median } from './median.mjs';
import { generator, here, peers } from './peers.mjs';

const results = join(here, '../results');

// Writes both files and returns the page's path.
export function writeReport(comparison) {
  mkdirSync(results, { recursive: true });
  const { data, positionals, quick } = comparison;
  const name = [new Date().toISOString().slice(0, 10), data.kind, ...positionals, ...(quick ? ['quick'] : [])].join('-');
  const summaries = Object.entries(comparison.resultsByScenario).map(([scenario, runs]) =>
    summary(comparison.scenarios[scenario], runs),
  );
  writeFileSync(join(results, `${name}.md`), page(comparison, summaries, name));
  writeFileSync(join(results, `${name}.svg`), chart(summaries));
  return join('loadtest/results', `${name}.md`);
}

// A scenario's medians, the best first.
function summary(scenario, runsByPeer) {
  const rows = Object.entries(runsByPeer).map(([peer, runs]) => row(scenario, peer, runs));
  const sign = scenario.metric.better === 'lower' ? 1 : -1;
  const good = rows.filter((row) => row.value !== undefined).sort((a, b) => sign * (a.value - b.value));
  const others = good.filter(({ peer }) => kindOf(peer) === 'peer');
  const floor = good.filter(({ peer }) => kindOf(peer) === 'floor')[0];
  return { scenario, rows: [...good, ...rows.filter((row) => row.value === undefined)], best: others[0], floor };
}

function kindOf(peer) {
  const { kind } = peers[peer];
  return kind === 'rowcast' ? 'own' : kind === 'floor' ? 'floor' : 'peer';
}

function row(scenario, peer, runs) {
  const good = runs.filter((run) => !run.error);
  const notes = [...new Set(runs.filter((run) => run.error).map((run) => run.error))];
  if (!good.length) return { peer, notes };
  const of = (pick) => (good.every((run) => pick(run) !== undefined) ? median(good.map(pick)) : undefined);
  const values = good.map(scenario.value);
  const faults = good.filter((run) => run.faults_count).length;
  if (faults) notes.push(`lost or disordered changes in ${faults} of ${good.length} runs`);
  if (good.some((run) => run.publish_failures)) notes.push('some publications failed');
  if (scenario.also) notes.push(`${scenario.also.name}: ${number(median(good.map(scenario.also.value)), 0)}`);
  if (good.some((run) => run.load_cpu_share > 0.95)) notes.push('the generator was at its limit');
  return {
    peer,
    notes,
    value: median(values),
    range: [Math.min(...values), Math.max(...values)],
    cpu: of((run) => run.server?.cpu_us_per_delivery),
    p50: of((run) => scenario.latency?.(run, 'p50_us')),
    p99: of((run) => scenario.latency?.(run, 'p99_us')),
    answers: of((run) => run.answers_per_s),
    skipped: of((run) => run.skipped),
  };
}

const number = (value, digits) => value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
const ratio = (value, base) => (base ? (value / base.value).toFixed(2) : '');
const latency = (us) => (us === undefined ? '' : us < 1000 ? `${us.toFixed(0)} µs` : `${number(us / 1000, 2)} ms`);

function page(comparison, summaries, name) {
  const { command, rounds, duration, missing, data } = comparison;
  const commit = execFileSync('git', ['-C', here, 'rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const isTimed = summaries.some(({ scenario }) => scenario.command === 'fanout');
  const measuredSpan = isTimed ? ` of ${duration} s after 1 s of warm-up` : '';
  const lines = [
    `# Rowcast beside other servers, ${name}`,
    '',
    `Commit ${commit}; ${cpus().length} × ${cpus()[0].model.trim()}, Linux ${release()}. Medians of ${rounds} interleaved rounds${measuredSpan},`,
    'server on processor 0, load on processor 1, over loopback. Frames of 190 bytes. Load average of the machine at the end:',
    `${loadavg()[0].toFixed(1)}, where about 1 is the comparison itself.`,
    `**Rowcast's data are ${data.told}**; the other servers keep theirs in memory. Made by`,
    `\`${command}\`. Only ratios within one table compare; the range of the rounds shows the noise.`,
    '',
    `![The medians as bars](${name}.svg)`,
    ...(missing.length ? ['', `Not installed, and left out: ${missing.join(', ')}.`] : []),
  ];
  for (const { scenario, rows, best, floor } of summaries) lines.push('', ...table(scenario, rows, best, floor));
  return lines.join('\n') + '\n';
}

function table({ title, metric, about }, rows, best, floor) {
  const shown = (value) => number(value, metric.digits);
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const body = rows.map((row) =>
    row.value === undefined
      ? line([row.peer, 'not measured', '', '', '', '', '', '', '', '', row.notes.join('; ')])
      : line([
          row.peer,
          `**${shown(row.value)}**`,
          row.range.map(shown).join(' – '),
          ratio(row.value, floor),
          ratio(row.value, best),
          row.cpu === undefined ? '' : number(row.cpu, 2),
          latency(row.p50),
          latency(row.p99),
          row.answers === undefined ? '' : number(row.answers, 0),
          row.skipped ? number(row.skipped, 0) : '',
          row.notes.join('; '),
        ]),
  );
  return [
    `## ${title}`,
    '',
    `${metric.name}, ${metric.unit} (${metric.better} is better).${about ? ` ${about}` : ''}`,
    '',
    line(['server', `${metric.name}, ${metric.unit}`, 'range', `÷ ${floor?.peer ?? 'floor'}`, `÷ best peer${best ? ` (${best.peer})` : ''}`, 'CPU/delivery, µs', 'p50', 'p99', 'answers/s', 'skipped', 'notes']),
    line(['---', '--:', '--:', '--:', '--:', '--:', '--:', '--:', '--:', '--:', '---']),
    ...body,
  ];
}

// One block of bars for each scenario, drawn by the load generator.
function chart(summaries) {
  const scenarios = summaries.map(({ scenario: { title, metric }, rows }) => ({
    title,
    subtitle: `${metric.name}, ${metric.unit}; ${metric.better} is better`,
    bars: rows
      .filter((row) => row.value !== undefined)
      .map(({ peer, value, range: [least, most] }) => {
        const label = `${number(value, metric.digits)} ${metric.unit}`;
        return { name: peer, kind: kindOf(peer), median: value, least, most, label };
      }),
  }));
  const comparison = { title: 'Rowcast beside other servers: medians, whiskers from least to most', scenarios };
  return execFileSync(generator, ['chart'], { input: JSON.stringify(comparison) });
}
