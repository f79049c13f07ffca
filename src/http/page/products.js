// The table of products, which has a schema: how its rows are told, found and ordered. Any other table is an AnyTable.

import { matcher } from './search.js';
import { comparison, valueOf } from './sorting.js';

export const PRODUCTS = {
  subscription: { productIDs: '*' },
  firstColumn: 'productId',
  matcher,
  valueOf,
  comparison,

  // The id of a product that a message tells, and its row; null if its id alone is told.
  told({ product }) {
    return { id: product.productId, row: product.productName === undefined ? null : product };
  },

  idOf(row) {
    return row.productId;
  },
};
