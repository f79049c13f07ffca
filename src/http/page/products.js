// The table of products, which has a schema: how its rows are drawn, found and ordered. Any other table is an AnyTable.

import { matcher } from './search.js';
import { comparison, valueOf } from './sorting.js';

export const PRODUCTS = {
  subscription: { productIDs: '*' },
  firstColumn: 'productId',
  matcher,
  valueOf,
  comparison,

  // The row that is drawn of one that the client tells.
  rowOf({ row, version, isOwed }) {
    return { ...row, version, isOwed };
  },

  idOf(row) {
    return row.productId;
  },
};
