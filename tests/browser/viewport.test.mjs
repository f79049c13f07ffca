import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rowsInView } from '../../src/http/page/viewport.js';

const VIEW = { rowHeight: 40, viewHeight: 800 };

test('the rows in view are drawn, and some beyond each edge', () => {
  const { height, first, end, shift } = rowsInView({ ...VIEW, count: 10_000, scrolled: 4000 });
  assert.deepEqual({ height, shift }, { height: 400_000, shift: 0 });
  assert.ok(first < 100 && end > 120);
  assert.ok(end - first < 60, `${end - first} rows`);
});

test('a list that begins below the edge, or ends above it, is drawn from its first to its last row', () => {
  assert.equal(rowsInView({ ...VIEW, count: 10_000, scrolled: -300 }).first, 0);
  assert.deepEqual(rowsInView({ ...VIEW, count: 3, scrolled: -300 }), { height: 120, first: 0, end: 3, shift: 0 });
  assert.equal(rowsInView({ ...VIEW, count: 10_000, scrolled: 400_000 - 800 }).end, 10_000);
  assert.deepEqual(rowsInView({ ...VIEW, count: 0, scrolled: 0 }), { height: 0, first: 0, end: 0, shift: 0 });
});

test('a list that is not in view draws nothing', () => {
  const below = rowsInView({ ...VIEW, count: 10_000, scrolled: -5000 });
  assert.equal(below.end - below.first, 0);
  const above = rowsInView({ ...VIEW, count: 100, scrolled: 50_000 });
  assert.equal(above.end - above.first, 0);
});

// Browsers end at some tens of millions of pixels; two million rows have eighty.
test('of a list that is higher than a browser can draw, every row is reached, and stands in view', () => {
  const count = 2_000_000;
  const { height } = rowsInView({ ...VIEW, count, scrolled: 0 });
  assert.ok(height <= 16_000_000);
  for (const part of [0, 0.1, 0.5, 0.999, 1]) {
    const scrolled = part * (height - VIEW.viewHeight);
    const { first, end, shift } = rowsInView({ ...VIEW, count, scrolled });
    const expected = part * (count - VIEW.viewHeight / VIEW.rowHeight);
    assert.ok(first <= expected && end >= expected + 20, `${first} to ${end} of ${expected}`);
    assert.ok(end - first < 60);
    const top = Math.floor(expected) * VIEW.rowHeight + shift;
    assert.ok(Math.abs(top - scrolled) <= VIEW.rowHeight, `${top} px at ${scrolled} px`);
  }
});
