// The search and the order of the table: by the heads of its columns, and where these do not fit, by a list.

export class Controls {
  #search;
  #headers;
  #list;
  #direction;
  #found;
  #on;
  #column = 'productId';
  #isDescending = false;
  #announces = false;

  // `on`: search(text), sort(column, isDescending).
  constructor(element, on) {
    this.#on = on;
    this.#search = element('search');
    this.#list = element('sort-column');
    this.#direction = element('sort-direction');
    this.#found = element('found');
    this.#headers = [...document.querySelectorAll('th[data-column]')];
    this.#search.addEventListener('input', () => this.#searched());
    for (const header of this.#headers) {
      header.querySelector('button').addEventListener('click', () => this.#headerClicked(header.dataset.column));
    }
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
    for (const header of this.#headers) {
      const isSorted = header.dataset.column === column;
      if (isSorted) header.setAttribute('aria-sort', isDescending ? 'descending' : 'ascending');
      else header.removeAttribute('aria-sort');
    }
    this.#list.value = column;
    this.#direction.dataset.order = isDescending ? 'descending' : 'ascending';
    this.#direction.setAttribute('aria-label', isDescending ? 'Descending, change' : 'Ascending, change');
    this.#on.sort(column, isDescending);
  }
}
