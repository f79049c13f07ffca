// The orders of rows: by which value of each column, and how two of them compare. Pure functions.

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

const byText = (one, other) => collator.compare(one, other);
const byNumber = (one, other) => one - other;

// The columns by which rows can be sorted: the value of a row, and the comparison of two values.
const COLUMNS = {
  productId: [(row) => row.productId, byNumber],
  productName: [(row) => row.productName, byText],
  manufacturer: [(row) => row.manufacturer, byText],
  pricePerUnit: [(row) => amount(row.pricePerUnit), byNumber],
  unitsAvailable: [(row) => row.unitsAvailable, byNumber],
  version: [(row) => row.version, byNumber],
};

// Returns the value of a row in a column.
export function valueOf(column) {
  return COLUMNS[column][0];
}

// Returns the comparison of entries `{ id, value }`. Equal values are in the order of their ids, in both directions.
export function comparison(column, isDescending) {
  const [, compare] = COLUMNS[column];
  const sign = isDescending ? -1 : 1;
  return (one, other) => sign * compare(one.value, other.value) || one.id - other.id;
}

// The first number in a price. Prices without one come after all others.
function amount(price) {
  const digits = /-?\d[\d.,]*/.exec(price)?.[0];
  return digits === undefined ? Number.MAX_VALUE : Number.parseFloat(withDecimalPoint(digits));
}

// Of "1,499.50" and "1.499,50" the last mark is the decimal one; a comma alone is, unless three digits follow it.
function withDecimalPoint(digits) {
  const comma = digits.lastIndexOf(',');
  const point = digits.lastIndexOf('.');
  const isDecimal = comma > point && (point >= 0 || !/,\d{3}($|,)/.test(digits));
  return isDecimal ? digits.replaceAll('.', '').replace(',', '.') : digits.replaceAll(',', '');
}
