// The values of any table's rows: read without loss, as texts, and in order. Pure functions.

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

// A browser draws a text of any length; nobody reads more of it in a cell.
const TEXT_LENGTH_MAX = 1000;

// A number as it was written, since JavaScript's would be another (9007199254740993) or would look so (1.50).
export class Exact {
  #text;

  constructor(text) {
    this.#text = text;
  }

  toString() {
    return this.#text;
  }

  valueOf() {
    return Number(this.#text);
  }

  toJSON() {
    return JSON.rawJSON?.(this.#text) ?? Number(this.#text);
  }
}

// JSON.parse, with numbers as they are written where the browser tells (https://tc39.es/proposal-json-parse-with-source).
export function parseExactly(text) {
  return JSON.parse(text, (name, value, context) => {
    const source = typeof value === 'number' ? context?.source : undefined;
    return source === undefined || source === String(value) ? value : new Exact(source);
  });
}

// The value of a row's member; undefined if the row has none of this name.
export function memberOf(row, name) {
  return Object.hasOwn(row.fields, name) ? row.fields[name] : undefined;
}

export function isNumber(value) {
  return typeof value === 'number' || value instanceof Exact;
}

// A value as a cell shows it: what is nested as compact JSON, what is missing as a dash.
export function textOf(value) {
  const text = wholeTextOf(value);
  return text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX)}…` : text;
}

export function wholeTextOf(value) {
  if (value === undefined) return '—';
  const isNested = value !== null && typeof value === 'object' && !(value instanceof Exact);
  return isNested ? JSON.stringify(value) : String(value);
}

const [NUMBER, TEXT, BOOLEAN, NESTED, NOTHING] = [0, 1, 2, 3, 4];

// A value as it is sorted by.
export function sortable(value) {
  if (value === undefined || value === null) return { rank: NOTHING, value: 0 };
  if (isNumber(value)) return { rank: NUMBER, value: Number(value) };
  if (typeof value === 'string') return { rank: TEXT, value };
  if (typeof value === 'boolean') return { rank: BOOLEAN, value: Number(value) };
  return { rank: NESTED, value: JSON.stringify(value) };
}

// Compares two of them: numbers, then texts, and so on. In both directions what has no value comes last.
export function compareSortable(one, other, isDescending) {
  if (one.rank === NOTHING || other.rank === NOTHING) return one.rank - other.rank;
  const sign = isDescending ? -1 : 1;
  if (one.rank !== other.rank) return sign * (one.rank - other.rank);
  const isText = one.rank === TEXT || one.rank === NESTED;
  return sign * (isText ? collator.compare(one.value, other.value) : one.value - other.value);
}
