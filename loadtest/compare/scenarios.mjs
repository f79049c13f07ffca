// What is measured: the load, the number that counts, and which floor it is held against. `latency` gives a percentile in
// microseconds, as `p99_us`; `also` is another number, for the notes.
const measured = (...args) => ({
  command: 'fanout',
  args,
  latency: (run, percentile) => run.latencies?.percentiles_us?.[{ p50_us: 0, p99_us: 2 }[percentile]][1],
});
const resumed = (run) => run.phases.find(({ name }) => name === 'resume');

export const scenarios = {
  steady: {
    title: 'steady: 1,000 readers of one product, 50 changes/s',
    ...measured('--connections', '1000', '--rate', '50', '--publishers', '1'),
    metric: { name: 'server CPU per delivery', unit: 'µs', better: 'lower', digits: 2 },
    value: (run) => run.server.cpu_us_per_delivery,
    floors: ['floor'],
  },
  sparse: {
    title: 'sparse: 5,000 readers, each of 20 of 10,000 products, 3,000 changes/s',
    ...measured('--connections', '5000', '--ids-per-connection', '20', '--products', '10000', '--rate', '3000'),
    metric: { name: 'server CPU per delivery', unit: 'µs', better: 'lower', digits: 2 },
    value: (run) => run.server.cpu_us_per_delivery,
    floors: [],
  },
  saturated: {
    title: 'saturated: 1,000 readers of one product, 64 publishers at once',
    ...measured('--connections', '1000', '--publishers', '64'),
    metric: { name: 'deliveries per second', unit: '/s', better: 'higher', digits: 0 },
    value: (run) => run.deliveries_per_s,
    floors: ['floor, 16 a write', 'floor, 64 a write'],
  },
  'sparse-saturated': {
    title: 'sparse-saturated: 5,000 readers, each of 20 of 10,000 products, 64 publishers at once',
    ...measured('--connections', '5000', '--ids-per-connection', '20', '--products', '10000', '--publishers', '64'),
    metric: { name: 'deliveries per second', unit: '/s', better: 'higher', digits: 0 },
    value: (run) => run.deliveries_per_s,
    floors: [],
  },
  idle: {
    title: 'idle: 15,000 readers of one product, nothing changes',
    command: 'memory',
    args: ['--connections', '15000'],
    metric: { name: 'memory per connection', unit: 'KiB', better: 'lower', digits: 2 },
    value: (run) => run.kib_per_connection,
    floors: [],
  },
  resume: {
    title: 'resume: 5,000 readers come back, each to 20 of 10,000 products, of which none has changed',
    command: 'resume',
    args: ['--connections', '5000', '--ids-per-connection', '20', '--products', '10000'],
    metric: { name: 'server CPU per resumed subscription', unit: 'µs', better: 'lower', digits: 2 },
    value: (run) => resumed(run).server_cpu_us_per_id,
    latency: (run, percentile) => resumed(run).last_reply[percentile],
    about: 'p50 and p99 of the readers: from the first command of all of them to the last reply to each.',
    also: { name: 'server CPU per connection that is opened, µs', value: (run) => run.opened.server_cpu_us_per_connection },
    floors: [],
    recovers: true,
  },
  'tls-steady': {
    title: 'tls-steady: 1,000 readers of one product over TLS, 50 changes/s',
    ...measured('--connections', '1000', '--rate', '50', '--publishers', '1', '--insecure'),
    metric: { name: 'server CPU per delivery', unit: 'µs', better: 'lower', digits: 2 },
    value: (run) => run.server.cpu_us_per_delivery,
    floors: [],
    secure: true,
  },
  'tls-idle': {
    title: 'tls-idle: 8,000 readers of one product over TLS, nothing changes',
    command: 'memory',
    args: ['--connections', '8000', '--insecure'],
    metric: { name: 'memory per connection', unit: 'KiB', better: 'lower', digits: 2 },
    value: (run) => run.kib_per_connection,
    floors: [],
    secure: true,
  },
};
