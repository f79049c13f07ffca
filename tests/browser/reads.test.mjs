import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reads } from '../../src/http/page/reads.js';
import { Replica } from '../../src/http/page/replica.js';

function product(productId, version) {
  const row = { productId, productName: 'n', manufacturer: 'm', pricePerUnit: '1', unitsAvailable: 1 };
  return { version, product: row };
}

function owing(...ids) {
  const replica = new Replica();
  for (const id of ids) replica.apply({ action: 'INSERT', version: 5, product: { productId: id } });
  return replica;
}

test('what is owed is read, also what comes to be owed meanwhile', async () => {
  const replica = owing(1, 2);
  const read = [];
  const readProduct = async (id) => {
    read.push(id);
    if (id === 2) replica.apply({ action: 'INSERT', version: 6, product: { productId: 3 } });
    return product(id, 6);
  };
  const reads = new Reads(replica, readProduct, () => assert.fail('nothing failed'));
  await Promise.all([reads.start(), reads.start()]);
  assert.deepEqual(read, [1, 2, 3]);
  assert.deepEqual([...replica.rows()].map((row) => row.productId), [1, 2, 3]);
  assert.equal(replica.get(1).pricePerUnit, '1');
});

test('a read that fails, or is older than what was told, is made again, after longer and longer pauses', async () => {
  const replica = owing(1, 2);
  const answers = [new Error(), new Error(), product(1, 4), product(1, 5)];
  const pauses = [];
  const read = async (id) => {
    if (id === 2) return product(2, 5);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  await new Reads(replica, read, async (ms) => pauses.push(ms)).start();
  assert.deepEqual(pauses, [1000, 2000, 4000]);
  assert.equal(replica.get(1).version, 5);
  assert.equal(replica.get(2).version, 5);
});

test('it can be started again after it has ended', async () => {
  const replica = owing(1);
  const reads = new Reads(replica, async (id) => product(id, 9), () => assert.fail('nothing failed'));
  await reads.start();
  replica.apply({ action: 'UPDATE', version: 9, product: { productId: 1 } });
  assert.equal(replica.isOwing, false);
  replica.apply({ action: 'INSERT', version: 9, product: { productId: 2 } });
  await reads.start();
  assert.equal(replica.isOwing, false);
});
