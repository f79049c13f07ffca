import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateMeter } from '../../src/http/page/rate.js';
import { agoText, countText, priceParts, rateText } from '../../src/http/page/text.js';

test('a steady stream has its rate', () => {
  const meter = new RateMeter();
  for (let ms = 0; ms < 6000; ms += 20) meter.add(ms);
  assert.equal(meter.perSecond(5999), 50);
});

test('a burst leaves the window', () => {
  const meter = new RateMeter();
  meter.add(10_000, 30);
  assert.equal(meter.perSecond(10_000), 10);
  assert.equal(meter.perSecond(12_900), 10);
  assert.equal(meter.perSecond(13_000), 0);
  assert.equal(meter.perSecond(99_000), 0);
});

test('slots of the ring are not counted twice', () => {
  const meter = new RateMeter();
  meter.add(0, 3);
  meter.add(3000, 6);
  assert.equal(meter.perSecond(3000), 2);
});

test('times and counts read well', () => {
  assert.deepEqual([0, 999, 1000, 59_999, 60_000, 3_600_000].map(agoText), [
    'just now', 'just now', '1 s ago', '59 s ago', '1 min ago', '1 h ago',
  ]);
  assert.deepEqual([0, 0.3333, 12.25, 99.96, 1234.5].map(rateText), ['0', '0.3', '12.3', '100', '1,235']);
  assert.equal(countText(1234567), '1,234,567');
});

test('a price keeps its text, whatever it is', () => {
  assert.deepEqual(priceParts('500EUR'), { amount: '500', gap: '', currency: 'EUR' });
  assert.deepEqual(priceParts('1,499.50 €'), { amount: '1,499.50', gap: ' ', currency: '€' });
  for (const price of ['on request', '', '12', 'EUR 5', '5 EUR each']) {
    const { amount, gap, currency } = priceParts(price);
    assert.equal(amount + gap + currency, price);
  }
});
