// The package as it is packed: installed from its file, with its types and its size.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { temporaryDirectory } from './support.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MINIFIED_BYTES_MAX = 6000;
const BYTES_MAX = 9216;
// What is loaded where no WebSocket gets through.
const EVENTS_BYTES_MAX = 2048;

// A project that has the package, as npm installs it from its file.
async function installed(t) {
  const home = await temporaryDirectory(t);
  const npm = (args, cwd) => execFileSync('npm', args, { cwd, encoding: 'utf8' });
  const [{ filename, files }] = JSON.parse(npm(['pack', '--json', '--pack-destination', home], ROOT));
  const project = join(home, 'project');
  await mkdir(project);
  await writeFile(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  npm(['install', '--offline', '--no-audit', '--no-fund', join(home, filename)], project);
  return { project, files: files.map(({ path }) => path), modules: join(project, 'node_modules', 'rowcast-client') };
}

test('the package has its modules and types, nothing else, and needs nothing', async (t) => {
  const { project, files, modules } = await installed(t);
  const names = ['backoff', 'client', 'connection', 'events', 'pieces', 'react', 'reads', 'replica', 'subscription', 'table'];
  assert.deepEqual(files.sort(), [...names.map((name) => `${name}.js`), 'README.md', 'client.d.ts', 'package.json', 'react.d.ts'].sort());
  const { dependencies } = JSON.parse(await readFile(join(modules, 'package.json'), 'utf8'));
  assert.equal(dependencies, undefined);
  await writeFile(join(project, 'main.js'), "import * as client from 'rowcast-client'; console.log(Object.keys(client).sort().join());");
  assert.equal(execFileSync('node', ['main.js'], { cwd: project, encoding: 'utf8' }).trim(), 'RowcastError,connect');
});

test('its types are strict, and say what a user may do', async (t) => {
  const { project } = await installed(t);
  // Those of the tests' own packages.
  for (const name of ['ws', 'eventsource', 'eventsource-parser', '@types']) await symlink(join(ROOT, 'node_modules', name), join(project, 'node_modules', name));
  await writeFile(join(project, 'types.ts'), await readFile(join(ROOT, 'tests', 'types.ts')));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = ['--strict', '--noEmit', '--exactOptionalPropertyTypes', '--target', 'es2022', '--module', 'nodenext'];
  try {
    execFileSync('node', [tsc, ...options, 'types.ts'], { cwd: project, encoding: 'utf8' });
  } catch ({ stdout }) {
    assert.fail(stdout);
  }
});

// Returns a module with what it imports, bundled without these, and how long it is minified and gzipped.
async function bundled(name, external) {
  const options = { bundle: true, format: 'esm', write: false, metafile: true, minify: true, external };
  const { outputFiles, metafile } = await build({ entryPoints: [join(ROOT, name)], ...options });
  return { metafile, minified: gzipSync(outputFiles[0].contents, { level: 9 }).length };
}

test('it is small', async (t) => {
  const { minified, metafile } = await bundled('client.js', ['./events.js']);
  const sources = await Promise.all(Object.keys(metafile.inputs).map((path) => readFile(join(ROOT, basename(path)))));
  const asItIs = gzipSync(Buffer.concat(sources), { level: 9 }).length;
  t.diagnostic(`${minified} bytes minified and gzipped, ${asItIs} gzipped as it is`);
  assert.ok(minified <= MINIFIED_BYTES_MAX, `${minified} bytes minified and gzipped`);
  assert.ok(asItIs <= BYTES_MAX, `${asItIs} bytes gzipped`);
  const events = (await bundled('events.js', ['./reads.js'])).minified;
  t.diagnostic(`${events} bytes for event streams`);
  assert.ok(events <= EVENTS_BYTES_MAX, `${events} bytes for event streams`);
});
