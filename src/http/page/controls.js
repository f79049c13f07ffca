// The search and the order of the table: by the heads of its columns, and where these do not fit, by a list.

export class Controls {
  #search;
  #headers;
  #list;
  #direction;
  #found;
  #on;
  #column;
  #isDescending = false;
  #announces = false;

  // `column`: the one that rows are sorted by at first. `on`: search(text), sort(column, isDescending).
  constructor(element, column, on) {
    this.#column = column;
    this.#on = on;
    this.#search = element('search');
    this.#list = element('sort-column');
    this.#direction = element('sort-direction');
    this.#found = element('found');
    this.#search.addEventListener('input', () => this.#searched());
    this.#takeHeaders();
    this.#list.addEventListener('change', () => this.#sort(this.#list.value, false));
    this.#direction.addEventListener('click', () => this.#sort(this.#column, !this.#isDescending));
  }

  get isSearching() {
    return this.#search.value.trim() !== '';
  }

  // Takes the number of rows that the search finds. It is read aloud once after each search, not with every change.
  found(count) {
    if (!this.#announces) return;
    this.#announces = false;
    this.#found.textContent = this.isSearching ? `${count} found` : '';
  }

  focus() {
    this.#search.focus();
  }

  // The table has other columns. Where the one that rows are sorted by is gone, they are sorted by the first.
  columnsChanged() {
    this.#takeHeaders();
    const columns = this.#headers.map((header) => header.dataset.column);
    if (columns.includes(this.#column)) this.#mark();
    else this.#sort(columns[0], false);
  }

  #takeHeaders() {
    this.#headers = [...document.querySelectorAll('th[data-column]')];
    for (const header of this.#headers) {
      header.querySelector('button').addEventListener('click', () => this.#headerClicked(header.dataset.column));
    }
  }

  #searched() {
    this.#announces = true;
    this.#on.search(this.#search.value);
  }

  // A click on the column that is sorted by turns the order around.
  #headerClicked(column) {
    this.#sort(column, column === this.#column && !this.#isDescending);
  }

  #sort(column, isDescending) {
    this.#column = column;
    this.#isDescending = isDescending;
    this.#mark();
    this.#on.sort(column, isDescending);
  }

  #mark() {
    const [column, isDescending] = [this.#column, this.#isDescending];
    for (const header of this.#headers) {
      const isSorted = header.dataset.column === column;
      if (isSorted) header.setAttribute('aria-sort', isDescending ? 'descending' : 'ascending');
      else header.removeAttribute('aria-sort');
    }
    this.#list.value = column;
    this.#direction.dataset.order = isDescending ? 'descending' : 'ascending';
    this.#direction.setAttribute('aria-label', isDescending ? 'Descending, change' : 'Ascending, change');
  }
}
