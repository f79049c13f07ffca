// What is printed at the end of a run.

const COUNTS = [
  ['rowcast_published', 'changes written'],
  ['rowcast_received', 'changes received'],
  ['rowcast_sockets_subscribed', 'sockets subscribed'],
  ['rowcast_sockets_finished', 'sockets that ended well'],
  ['rowcast_sockets_resumed', 'sockets resumed'],
  ['rowcast_states_wrong', 'states wrong'],
  ['rowcast_states_repeated', 'states repeated'],
  ['rowcast_missing', 'changes missing'],
  ['rowcast_out_of_order', 'versions out of order'],
  ['rowcast_skipped', 'changes skipped, as told'],
  ['rowcast_refused', 'commands refused'],
  ['rowcast_unexpected_closes', 'unexpected closes'],
];

const TIMES = [
  ['rowcast_latency_ms', 'write to socket'],
  ['rowcast_k6_wait_ms', 'then in k6'],
  ['rowcast_opening_ms', 'open to subscribed'],
  ['rowcast_resume_ms', 'open to resumed'],
  ['rowcast_write_ms', 'a write'],
  ['rowcast_write_late_ms', 'a write was late by'],
  ['http_req_duration', 'an HTTP request'],
];

// The handler of k6's `handleSummary`: text for people, and all of the data as JSON where SUMMARY_JSON names a file.
export function summary(title, knobs, data) {
  const lines = [
    `Rowcast load test: ${title}, ${(data.state.testRunDurationMs / 1000).toFixed(1)} s`,
    `  with ${knobsLine(knobs)} (times in ms)`,
    ...counts(data, knobs),
    ...times(data),
    ...verdict(data),
  ];
  const outputs = { stdout: `\n${lines.join('\n')}\n` };
  if (__ENV.SUMMARY_JSON) outputs[__ENV.SUMMARY_JSON] = JSON.stringify(data, null, 2);
  return outputs;
}

function knobsLine(knobs) {
  return Object.entries(knobs)
    .filter(([name]) => name !== 'BASE_URL')
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

function counts({ metrics }, { DURATION }) {
  const lines = [];
  for (const [name, label] of COUNTS) {
    if (metrics[name] === undefined) continue;
    const { count } = metrics[name].values;
    const rate = name === 'rowcast_published' || name === 'rowcast_received';
    lines.push(row(label, String(count), rate ? `${Math.round((1000 * count) / DURATION)}/s` : ''));
  }
  const checks = metrics.checks?.values;
  if (checks) lines.push(row('checks', String(checks.passes), checks.fails ? `${checks.fails} failed` : 'all passed'));
  return lines;
}

function times({ metrics }) {
  const stats = ['med', 'p(95)', 'p(99)', 'max'];
  const present = TIMES.filter(([name]) => metrics[name]?.values.count > 0);
  if (present.length === 0) return [];
  const heads = stats.map((stat) => stat.replace(/[()]/g, '').padStart(9)).join('');
  return [
    `  ${'milliseconds'.padEnd(24)}${heads}`,
    ...present.map(([name, label]) => {
      const { values } = metrics[name];
      return `  ${label.padEnd(24)}${stats.map((stat) => values[stat].toFixed(2).padStart(9)).join('')}`;
    }),
  ];
}

const row = (label, value, note) => `  ${label.padEnd(24)}${value.padStart(9)}  ${note}`.trimEnd();

// Which bounds were exceeded, and which checks failed.
function verdict({ metrics, root_group: root }) {
  const failed = [];
  for (const [name, { thresholds = {}, values }] of Object.entries(metrics)) {
    for (const [bound, { ok }] of Object.entries(thresholds)) {
      if (!ok) failed.push(`  FAILED  ${name}: ${bound} (${shown(bound, values)})`);
    }
  }
  for (const check of checksOf(root)) {
    if (check.fails > 0) failed.push(`  FAILED  ${check.fails} of ${check.fails + check.passes}: ${check.name}`);
  }
  return failed.length > 0 ? failed : ['  passed: every bound held'];
}

function shown(bound, values) {
  const value = values[/^[a-z]+(\([\d.]+\))?/.exec(bound)[0]];
  return Number.isInteger(value) ? String(value) : value?.toFixed(2);
}

const checksOf = (group) => (group ? [...(group.checks ?? []), ...(group.groups ?? []).flatMap(checksOf)] : []);
