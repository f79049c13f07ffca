// The words of a page that shows a table by its name, in place of those on products.

export function nameTable(name, element) {
  document.title = `${name} · Rowcast`;
  document.body.classList.add('named');
  element('products-heading').textContent = name;
  element('loading').textContent = 'Loading rows…';
  element('nothing').textContent = 'No row matches this search.';
  element('empty').querySelector('h3').textContent = 'No rows yet';
  element('token-heading').textContent = `A token is needed to see ${name}`;
  for (const attribute of ['aria-label', 'placeholder']) element('search').setAttribute(attribute, 'Search all columns');
}

export function noTableText(name) {
  if (name === '') return 'No table is named: add one to the address, as in /?table=orders.';
  return `There is no table “${name}” on this server. As soon as there is, it shows here: this page asks again every half a minute.`;
}

// `name`: null for the products.
export function forbiddenText(name) {
  return `Your token does not let you see ${name === null ? 'any product' : `the table “${name}”`}.`;
}

export function columnsLeftText(names) {
  if (names.length === 0) return '';
  return names.length === 1 ? '1 more column' : `${names.length} more columns`;
}
