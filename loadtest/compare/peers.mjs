// The servers that are compared: how each is started, and what the load generator has to be told.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const here = dirname(fileURLToPath(import.meta.url));
// Packages for production are built with this profile.
export const built = join(resolve(process.env.CARGO_TARGET_DIR ?? join(here, '../../target')), 'dist');
export const generator = join(built, 'rowcast-load');

function onPath(name) {
  return process.env.PATH.split(':').map((dir) => join(dir, name)).find(existsSync) ?? `/usr/sbin/${name}`;
}

function floor(batch) {
  const port = 19100;
  return {
    kind: 'floor',
    url: `ws://127.0.0.1:${port}`,
    command: () => [generator, 'floor', '--listen', `127.0.0.1:${port}`, '--batch', String(batch)],
    needs: generator,
  };
}

// Where the package is put, and where it puts itself if npm lets it.
const bun = [
  join(here, `bun/node_modules/@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : 'x64'}/bin/bun`),
  join(here, 'bun/node_modules/bun/bin/bun.exe'),
].find((file, place) => place === 1 || existsSync(file));
const nchan = '/usr/lib/nginx/modules/ngx_nchan_module.so';

// A Rowcast, whose data are in `data`.
function rowcast(binary) {
  return {
    kind: 'rowcast',
    url: 'ws://127.0.0.1:19200',
    command: (_, data) => [binary, '--listen', '127.0.0.1:19200', '--cores', '1', '--data-dir', data],
    recovers: [],
    secure: {
      args: (certificate) => ['--tls-cert', join(certificate, 'cert.pem'), '--tls-key', join(certificate, 'key.pem')],
    },
    needs: binary,
  };
}

// Another Rowcast beside this one: LABEL=BINARY.
export function addRowcast(text) {
  const [label, binary] = [text.slice(0, text.indexOf('=')), resolve(text.slice(text.indexOf('=') + 1))];
  if (!label || peers[label]) throw new Error(`${text}: give a name that no other server has, as in before=${binary}`);
  if (!existsSync(binary)) throw new Error(`${text}: there is no ${binary}`);
  peers[label] = rowcast(binary);
  return label;
}

// `needs` is the file without which a peer is left out; `directory` is an empty one that a run gets. What `secure` tells
// the server for the scenarios over TLS, if it can serve them: options, and variables of its environment; `certificate` is
// the directory with cert.pem and key.pem. `recovers` are its options for the scenarios in which readers come back, if it
// can tell them what they missed.
export const peers = {
  floor: floor(1),
  'floor, 16 a write': floor(16),
  'floor, 64 a write': floor(64),
  rowcast: rowcast(join(built, 'rowcast')),
  bun: {
    kind: 'bun',
    url: 'ws://127.0.0.1:19300',
    command: () => [bun, join(here, 'bun/server.js')],
    env: { PORT: '19300' },
    secure: { env: (certificate) => ({ TLS_DIR: certificate }) },
    needs: bun,
  },
  ws: {
    kind: 'ws',
    url: 'ws://127.0.0.1:19400',
    command: () => [process.execPath, join(here, 'ws/server.js')],
    env: { PORT: '19400' },
    needs: join(here, 'ws/node_modules/ws/package.json'),
  },
  nats: {
    kind: 'nats',
    url: 'ws://127.0.0.1:19423',
    publishTo: '127.0.0.1:19422',
    command: () => [onPath('nats-server'), '-c', join(here, 'nats/nats.conf')],
    needs: onPath('nats-server'),
  },
  nchan: {
    kind: 'nchan',
    url: 'ws://127.0.0.1:19080',
    command: (directory) => [onPath('nginx'), '-p', directory, '-c', join(here, 'nchan/nginx.conf')],
    needs: nchan,
  },
  centrifugo: {
    kind: 'centrifugo',
    url: 'ws://127.0.0.1:19800',
    command: () => [join(here, 'centrifugo/bin/centrifugo'), '-c', join(here, 'centrifugo/config.json')],
    // Of an option that is given twice, the last counts.
    recovers: ['-c', join(here, 'centrifugo/recovery.json')],
    needs: join(here, 'centrifugo/bin/centrifugo'),
  },
};

// A server's process and those that it started.
export function processes(pid) {
  let children = '';
  try {
    children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  } catch {
    return [];
  }
  return [pid, ...children.trim().split(' ').filter(Boolean).flatMap((child) => processes(Number(child)))];
}
