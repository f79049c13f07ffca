// What a change carries from its writer to its readers, in the fields of a product: its place in the sequence of that
// product's changes, when it was sent, when the one before it was sent, and whether it is the last.

const LAST = 'last';

// The body of a write; `bytes` more than it needs.
export function stamped({ sequence, sentAt, previousAt, last }, bytes) {
  return JSON.stringify({
    manufacturer: 'k'.repeat(bytes),
    pricePerUnit: last ? LAST : '',
    unitsAvailable: sequence,
    productName: `${sentAt.toFixed(3)} ${previousAt.toFixed(3)}`,
  });
}

// The stamp of a product that came in, or null where somebody else wrote it.
export function stampOf(product) {
  const [sentAt, previousAt] = product.productName.split(' ').map(Number);
  if (Number.isNaN(sentAt) || !(previousAt >= 0)) return null;
  return { sequence: product.unitsAvailable, sentAt, previousAt, last: product.pricePerUnit === LAST };
}
