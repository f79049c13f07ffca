// The products that a search finds: pure functions.

// Returns the test for a row. Each word has to be in the product's name, whatever its case and accents, or to begin the
// product's id.
export function matcher(text) {
  const words = wordsOf(text);
  if (words.length === 0) return () => true;
  return ({ productId, productName }) => {
    const name = folded(productName);
    const id = String(productId);
    return words.every((word) => name.includes(word) || id.startsWith(word));
  };
}

export function wordsOf(text) {
  return folded(text).split(/\s+/).filter((word) => word !== '');
}

// A text without case and accents.
export function folded(text) {
  return text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
}
