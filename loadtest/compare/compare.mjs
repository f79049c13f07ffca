// Runs the scenarios: every round starts each server once per scenario, so that whatever else this machine does falls
// on all of them alike. Started by run.sh.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { addRowcast, built, generator, peers, processes } from './peers.mjs';
import { writeReport } from './report.mjs';
import { scenarios } from './scenarios.mjs';
import { storage } from './storage.mjs';

const SERVER_CPU = '0';
const LOAD_CPU = '1';
// A run that hangs must not hold up the others.
const RUN_MS_MAX = 180_000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    duration: { type: 'string' },
    peers: { type: 'string' },
    data: { type: 'string', default: 'disk' },
  },
});
const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
const duration = Number(options.duration ?? (options.quick ? 2 : 5));
const names = positionals.length ? positionals : Object.keys(scenarios);
const asked = options.peers?.split(',').map((name) => (name.includes('=') ? ableTo(() => addRowcast(name)) : name)) ?? Object.keys(peers).filter((name) => !name.startsWith('floor'));
for (const name of names) if (!scenarios[name]) stop(`there is no scenario ${name}; there are ${Object.keys(scenarios).join(', ')}`);
for (const name of asked) if (!peers[name]) stop(`there is no peer ${name}; there are ${Object.keys(peers).join(', ')}`);
if (!['disk', 'memory'].includes(options.data)) stop('--data is disk or memory');
const data = ableTo(() => storage(options.data));
if (!(rounds >= 1 && duration > 0)) stop('--rounds and --duration are numbers above 0');

const missing = asked.filter((name) => !existsSync(peers[name].needs));
const present = asked.filter((name) => !missing.includes(name));
if (missing.length) console.error(`left out, since they are not installed: ${missing.join(', ')}`);

const running = new Set();
// Of the run that is under way: its own files, and what Rowcast stores.
let directory;
let dataDirectory;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(130));
}
process.on('exit', () => {
  running.forEach(kill);
  removeDirectories();
});

const resultsByScenario = {};
for (let round = 1; round <= rounds; round++) {
  for (const name of names) {
    const able = present.filter((peer) => ['secure', 'recovers'].every((what) => !scenarios[name][what] || peers[peer][what]));
    for (const peer of [...new Set([...scenarios[name].floors, ...able])]) {
      const result = await measure(scenarios[name], peers[peer]).catch((error) => ({ error: error.message }));
      ((resultsByScenario[name] ??= {})[peer] ??= []).push(result);
      console.error(`round ${round}/${rounds}  ${name.padEnd(17)} ${peer.padEnd(18)} ${told(scenarios[name], result)}`);
    }
  }
}
const command = ['loadtest/compare/run.sh', ...process.argv.slice(2)].join(' ');
console.log(writeReport({ command, positionals, resultsByScenario, scenarios, rounds, duration, missing, data, quick: options.quick }));
const runs = Object.values(resultsByScenario).flatMap((runsByPeer) => Object.values(runsByPeer).flat());
if (runs.some((run) => run.error) || (options.peers && missing.length)) {
  console.error('compare: not all that was asked for was measured; the results say why');
  process.exitCode = 1;
}

function removeDirectories() {
  for (const each of [directory, dataDirectory]) if (each) rmSync(each, { recursive: true, force: true });
}

// What a function gives, or the end with what it has to say.
function ableTo(act) {
  try {
    return act();
  } catch (error) {
    return stop(error.message);
  }
}

function stop(why) {
  console.error(`compare: ${why}`);
  process.exit(64);
}

function told({ metric, value }, result) {
  return result.error ?? `${value(result).toFixed(metric.digits)} ${metric.unit}${result.faults_count ? `  (${result.faults_count} faults)` : ''}`;
}

// Starts a server, loads it, and ends it, whatever happens.
async function measure(scenario, peer) {
  directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rowcast-compare-'));
  dataDirectory = mkdtempSync(join(data.parent, 'rowcast-data-'));
  const server = start(SERVER_CPU, ...serving(scenario, peer));
  try {
    await until(peer, server);
    const json = join(directory, 'run.json');
    const url = scenario.secure ? peer.url.replace('ws:', 'wss:') : peer.url;
    const args = [...scenario.args, '--peer', peer.kind, '--url', url, '--json', json, '--pid', processes(server.pid).join()];
    // The server has just been started, for this run.
    if (scenario.command !== 'memory') args.push('--overwrite-products');
    if (scenario.command === 'fanout') {
      args.push('--duration', String(duration), '--warm-up', '1');
      if (peer.publishTo) args.push('--publish-to', peer.publishTo);
    }
    const load = start(LOAD_CPU, [generator, scenario.command, ...args]);
    const code = await within(RUN_MS_MAX, load);
    if (!existsSync(json)) throw new Error(`the load ended with ${code}: ${load.said.trim().split('\n').at(-1)}`);
    const result = JSON.parse(readFileSync(json, 'utf8'));
    // What was not recovered cost nothing: that is no figure of a server that recovers.
    if (scenario.recovers && result.faults_count) throw new Error(`${result.faults_count} faults, as ${result.faults[0]}`);
    return result;
  } finally {
    await end(server);
    removeDirectories();
  }
}

// What a server is started with: command and environment.
function serving(scenario, peer) {
  const command = [...peer.command(directory, dataDirectory), ...(scenario.recovers ? peer.recovers : [])];
  if (!scenario.secure) return [command, peer.env];
  const certificate = join(directory, 'certificate');
  execFileSync(join(built, 'rowcast'), ['cert', '--out', certificate], { stdio: 'ignore' });
  return [[...command, ...(peer.secure.args?.(certificate) ?? [])], { ...peer.env, ...peer.secure.env?.(certificate) }];
}

function start(cpu, command, env = {}) {
  const child = spawn('taskset', ['-c', cpu, ...command], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (child.said = (child.said + text).slice(-4000)));
  child.ended = new Promise((resolve) => {
    child.on('error', () => resolve('no taskset'));
    child.on('exit', (code, signal) => resolve(code ?? signal));
  });
  running.add(child);
  child.ended.then(() => running.delete(child));
  return child;
}

// Waits until a server listens.
async function until(peer, server) {
  const { hostname, port } = new URL(peer.url);
  for (let tries = 0; tries < 100; tries++) {
    if (!running.has(server)) throw new Error(`the server ended: ${server.said.trim().split('\n').at(-1)}`);
    const socket = createConnection(Number(port), hostname);
    const listens = await new Promise((resolve) => socket.on('connect', () => resolve(true)).on('error', () => resolve(false)));
    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, listens ? 300 : 100));
    if (listens) return;
  }
  throw new Error('the server does not listen');
}

async function within(ms, child) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(() => resolve('no end'), ms)));
  const code = await Promise.race([child.ended, late]);
  clearTimeout(timer);
  if (code === 'no end') await end(child);
  return code;
}

async function end(child) {
  if (!running.has(child)) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => kill(child), 3000);
  await child.ended;
  clearTimeout(timer);
}

// Ends a process and those that it started, which would outlive it.
function kill(child) {
  for (const pid of processes(child.pid)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}
