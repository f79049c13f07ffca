import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrange, rising } from '../../src/http/page/arrange.js';

// Random numbers below an end, the same in every run.
function randomBelow(seed) {
  let state = seed;
  return (end) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * end);
  };
}

function shuffled(items, below) {
  const left = [...items];
  return items.map(() => left.splice(below(left.length), 1)[0]);
}

// The length of the longest rising series of all that have the one at `fixed`: by trying every one.
function longest(numbers, fixed) {
  let most = 0;
  for (let set = 0; set < 2 ** numbers.length; set += 1) {
    const chosen = numbers.filter((number, i) => (set >> i) & 1);
    if (chosen.includes(undefined) || (fixed >= 0 && !((set >> fixed) & 1))) continue;
    if (chosen.every((number, i) => i === 0 || chosen[i - 1] < number)) most = Math.max(most, chosen.length);
  }
  return most;
}

test('a rising series is found, it is a longest, and it has the fixed one', () => {
  const below = randomBelow(3);
  for (let round = 0; round < 500; round += 1) {
    const all = shuffled([...Array(below(9)).keys()], below);
    const numbers = all.map((number) => (below(4) === 0 ? undefined : number));
    const candidate = below(numbers.length + 1) - 1;
    const fixed = numbers[candidate] === undefined ? -1 : candidate;
    const indices = [...rising(numbers, fixed)].sort((one, other) => one - other);
    const series = indices.map((i) => numbers[i]);
    assert.ok(series.every((number, i) => number !== undefined && (i === 0 || series[i - 1] < number)), `${series}`);
    assert.equal(series.length, longest(numbers, fixed), `${numbers}, fixed ${fixed}`);
    assert.ok(fixed < 0 || indices.includes(fixed));
  }
});

// A parent as far as `arrange` needs one; it counts its moves.
class Parent {
  moved = [];

  constructor(children) {
    this.children = children;
    for (const child of children) child.isConnected = true;
  }

  insertBefore(element, next) {
    this.moved.push(element);
    this.children = this.children.filter((child) => child !== element);
    this.children.splice(next === null ? this.children.length : this.children.indexOf(next), 0, element);
    element.isConnected = true;
  }
}

test('elements come into their order among others, and the fixed one stays where it is', () => {
  const below = randomBelow(7);
  for (let round = 0; round < 500; round += 1) {
    const elements = Array.from({ length: 1 + below(9) }, (_, name) => ({ name, isConnected: false }));
    const others = Array.from({ length: below(3) }, () => ({ name: 'leaving' }));
    const parent = new Parent(shuffled([...elements.filter(() => below(3) > 0), ...others], below));
    const connected = elements.filter((element) => element.isConnected);
    const fixed = connected.length > 0 && below(2) === 0 ? connected[below(connected.length)] : undefined;
    arrange(parent, elements, fixed);
    assert.deepEqual(parent.children.filter((child) => child.name !== 'leaving'), elements);
    assert.equal(parent.children.length, elements.length + others.length);
    assert.ok(!parent.moved.includes(fixed));
  }
});

test('one element that goes to the other end is the only one that is moved', () => {
  const elements = Array.from({ length: 30 }, (_, name) => ({ name }));
  for (const children of [[...elements.slice(1), elements[0]], [elements[29], ...elements.slice(0, 29)]]) {
    const parent = new Parent(children);
    arrange(parent, elements, null);
    assert.equal(parent.moved.length, 1);
    assert.deepEqual(parent.children, elements);
  }
});
