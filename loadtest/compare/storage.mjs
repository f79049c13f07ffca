// Where Rowcast's data are: on a disk, whose fsync a commit waits for, or in memory, where that costs nothing.
import { closeSync, existsSync, fsyncSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { built } from './peers.mjs';
import { median } from './median.mjs';

const IN_MEMORY = ['tmpfs', 'ramfs'];
const FSYNCS = 50;

// A place for directories, and the sentence that names it. Throws where it is not what was asked for.
export function storage(kind) {
  const parent = kind === 'memory' ? '/dev/shm' : (process.env.ROWCAST_COMPARE_DISK ?? dirname(built));
  if (kind === 'disk') mkdirSync(parent, { recursive: true });
  if (!existsSync(parent)) throw new Error(`--data ${kind}: there is no ${parent}`);
  const { device, type } = filesystem(parent);
  if (IN_MEMORY.includes(type) !== (kind === 'memory')) {
    const where = kind === 'disk' ? '; name a directory on a disk with ROWCAST_COMPARE_DISK' : '';
    throw new Error(`--data ${kind}: ${parent} is ${type}${where}`);
  }
  const fsync = `${fsyncMs(parent).toFixed(2)} ms for an fsync of 4 KiB (median of ${FSYNCS})`;
  return { kind, parent, told: kind === 'disk' ? `on a disk (${device}, ${type}; ${fsync})` : `in memory (${parent}, ${type})` };
}

// The filesystem that holds a directory: the longest mount point above it (proc(5), mountinfo).
function filesystem(directory) {
  let found = { mountPoint: '', device: '?', type: '?' };
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n')) {
    const [before, after] = line.split(' - ');
    const mountPoint = before.split(' ')[4];
    const [type, device] = after.split(' ');
    const isAbove = mountPoint === '/' || directory === mountPoint || directory.startsWith(`${mountPoint}/`);
    if (isAbove && mountPoint.length >= found.mountPoint.length) found = { mountPoint, device, type };
  }
  return found;
}

function fsyncMs(parent) {
  const directory = mkdtempSync(join(parent, 'rowcast-fsync-'));
  const file = openSync(join(directory, 'file'), 'w');
  const page = Buffer.alloc(4096, 1);
  const times = Array.from({ length: FSYNCS }, () => {
    const began = process.hrtime.bigint();
    writeSync(file, page);
    fsyncSync(file);
    return Number(process.hrtime.bigint() - began) / 1e6;
  });
  closeSync(file);
  rmSync(directory, { recursive: true });
  return median(times);
}
