import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reader } from '../reads.js';
import { Replica } from '../replica.js';

const told = (key, version) => ({ action: 'INSERT', key, version });
const row = (key, version) => ({ key, version, row: { n: version } });

function owing(...keys) {
  const rows = new Replica('orders');
  for (const key of keys) rows.apply(told(key, 5));
  return rows;
}

test('what is owed is read and told, also what comes to be owed meanwhile', async () => {
  const rows = owing(1, 'b');
  const [read, filled] = [[], []];
  const readRow = async (key) => {
    read.push(key);
    if (key === 'b') rows.apply(told(3, 6));
    return row(key, 6);
  };
  const reads = reader(rows, readRow, ([{ action, key }]) => filled.push([action, key]), () => assert.fail('nothing failed'));
  await Promise.all([reads(), reads()]);
  assert.deepEqual(read, [1, 'b', 3]);
  assert.deepEqual(filled, [['INSERT', 1], ['INSERT', 'b'], ['INSERT', 3]]);
  assert.deepEqual(rows.get('b').row, { n: 6 });
});

test('a read that fails, or is older than what was told, is made again, after longer and longer pauses', async () => {
  const rows = owing(1, 2);
  const answers = [new Error(), new Error(), row(1, 4), undefined, row(1, 5)];
  const pauses = [];
  const read = async (key) => {
    if (key === 2) return row(2, 5);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  await reader(rows, read, () => {}, async (ms) => pauses.push(ms))();
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000]);
  assert.deepEqual([rows.version('1'), rows.version('2')], [5, 5]);
});

test('it can be started again after it has ended', async () => {
  const rows = owing(1);
  const reads = reader(rows, async (key) => row(key, 9), () => {}, () => assert.fail('nothing failed'));
  await reads();
  rows.apply(told(1, 9));
  assert.deepEqual(rows.owed(), []);
  rows.apply(told(2, 9));
  await reads();
  assert.deepEqual(rows.owed(), []);
});
