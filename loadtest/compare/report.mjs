// The results as a page of Markdown and a chart.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';

import { here } from './peers.mjs';

const results = join(here, '../results');

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Writes both files and returns the page's path.
export function writeReport(comparison) {
  mkdirSync(results, { recursive: true });
  const name = new Date().toISOString().slice(0, 10) + (comparison.quick ? '-quick' : '');
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
  const others = good.filter(({ peer }) => peer !== 'rowcast' && !peer.startsWith('floor'));
  const floor = good.filter(({ peer }) => peer.startsWith('floor'))[0];
  return { scenario, rows: [...good, ...rows.filter((row) => row.value === undefined)], best: others[0], floor };
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
  if (good.some((run) => run.load_cpu_share > 0.95)) notes.push('the generator was at its limit');
  return {
    peer,
    notes,
    value: median(values),
    range: [Math.min(...values), Math.max(...values)],
    cpu: of((run) => run.server?.cpu_us_per_delivery),
    p50: of((run) => run.latencies?.percentiles_us?.[0][1]),
    p99: of((run) => run.latencies?.percentiles_us?.[2][1]),
    answers: of((run) => run.answers_per_s),
    skipped: of((run) => run.skipped),
  };
}

const number = (value, digits) => value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
const ratio = (value, base) => (base ? (value / base.value).toFixed(2) : '');
const latency = (us) => (us === undefined ? '' : us < 1000 ? `${us.toFixed(0)} µs` : `${number(us / 1000, 2)} ms`);

function page(comparison, summaries, name) {
  const { rounds, duration, missing } = comparison;
  const commit = execFileSync('git', ['-C', here, 'rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const lines = [
    `# Rowcast beside other servers, ${name}`,
    '',
    `Commit ${commit}; ${cpus().length} × ${cpus()[0].model.trim()}, Linux ${release()}. Medians of ${rounds} interleaved rounds of`,
    `${duration} s after 1 s of warm-up; server on processor 0, load on processor 1, over loopback. Frames of 190 bytes. Made by`,
    '`loadtest/compare/run.sh`. Only ratios within one table compare; the range of the rounds shows the noise.',
    '',
    `![The medians as bars](${name}.svg)`,
    ...(missing.length ? ['', `Not installed, and left out: ${missing.join(', ')}.`] : []),
  ];
  for (const { scenario, rows, best, floor } of summaries) lines.push('', ...table(scenario, rows, best, floor));
  return lines.join('\n') + '\n';
}

function table({ title, metric }, rows, best, floor) {
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
    `${metric.name}, ${metric.unit} (${metric.better} is better).`,
    '',
    line(['server', `${metric.name}, ${metric.unit}`, 'range', `÷ ${floor?.peer ?? 'floor'}`, `÷ best peer${best ? ` (${best.peer})` : ''}`, 'CPU/delivery, µs', 'p50', 'p99', 'answers/s', 'skipped', 'notes']),
    line(['---', '--:', '--:', '--:', '--:', '--:', '--:', '--:', '--:', '--:', '---']),
    ...body,
  ];
}

const BAR = 22;
const escape = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

// One block of bars for each scenario.
function chart(summaries) {
  const [left, width, right] = [150, 480, 130];
  let y = 40;
  const parts = [`<text x="16" y="26" class="title">Rowcast beside other servers: medians, whiskers from least to most</text>`];
  for (const { scenario, rows } of summaries) {
    const shown = rows.filter((row) => row.value !== undefined);
    const most = Math.max(...shown.map((row) => row.range[1]), 1e-9);
    const x = (value) => left + (Math.max(value, 0) / most) * width;
    parts.push(`<text x="16" y="${(y += 26)}" class="scenario">${escape(scenario.title)}</text>`);
    parts.push(`<text x="16" y="${(y += 16)}" class="unit">${scenario.metric.name}, ${scenario.metric.unit}; ${scenario.metric.better} is better</text>`);
    y += 8;
    for (const row of shown) {
      const kind = row.peer === 'rowcast' ? 'own' : row.peer.startsWith('floor') ? 'floor' : 'peer';
      const middle = y + BAR / 2 - 2;
      parts.push(
        `<text x="${left - 8}" y="${middle + 4}" class="name">${escape(row.peer)}</text>`,
        `<rect x="${left}" y="${y}" width="${(x(row.value) - left).toFixed(1)}" height="${BAR - 5}" class="${kind}"/>`,
        `<line x1="${x(row.range[0]).toFixed(1)}" x2="${x(row.range[1]).toFixed(1)}" y1="${middle}" y2="${middle}" class="range"/>`,
        `<text x="${(x(row.range[1]) + 6).toFixed(1)}" y="${middle + 4}" class="value">${number(row.value, scenario.metric.digits)} ${scenario.metric.unit}</text>`,
      );
      y += BAR;
    }
  }
  const legend = [['own', 'Rowcast'], ['floor', 'floor: bare sends'], ['peer', 'other servers']].map(
    ([kind, name], place) =>
      `<rect x="${left + place * 150}" y="${y + 16}" width="12" height="12" class="${kind}"/><text x="${left + 18 + place * 150}" y="${y + 26}" class="value">${name}</text>`,
  );
  const total = left + width + right;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${total} ${y + 44}" width="${total}" height="${y + 44}" role="img">
<title>Rowcast beside other servers</title>
<style>
text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-size: 16px; font-weight: 600 } .scenario { font-weight: 600; font-size: 13px }
.unit { fill: #666 } .name { text-anchor: end } .own { fill: #1f6feb } .floor { fill: #8c959f } .peer { fill: #d4a72c } .range { stroke: #222; stroke-width: 1.5 }
</style>
<rect width="100%" height="100%" fill="#fff"/>
${[...parts, ...legend].join('\n')}
</svg>
`;
}
