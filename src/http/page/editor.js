// The dialog in which a product is added or edited. What was typed stays until it is saved: an error leaves it in the
// fields, and so does closing a dialog that adds.

const KEYS = ['productId', 'productName', 'manufacturer', 'pricePerUnit', 'unitsAvailable'];
const NUMBERS = new Set(['productId', 'unitsAvailable']);

export class Editor {
  #dialog;
  #form;
  #fields;
  #on;
  #editing = null;
  #draft = {};
  #suggestedId = '';

  // `on`: create(product), patch(id, fields), nextFreeId().
  constructor(dialog, on) {
    this.#dialog = dialog;
    this.#on = on;
    this.#form = dialog.querySelector('form');
    this.#fields = Object.fromEntries(KEYS.map((key) => [key, this.#form.elements[key]]));
    this.#form.addEventListener('submit', (event) => this.#submitted(event));
    this.#form.addEventListener('input', () => this.#check());
    dialog.querySelector('#editor-cancel').addEventListener('click', () => dialog.close());
    dialog.addEventListener('close', () => this.#closed());
  }

  add() {
    this.#open(null, 'Add a product', 'Add product');
    for (const key of KEYS) this.#fields[key].value = this.#draft[key] ?? '';
    if (this.#draft.productId === undefined) this.#fields.productId.value = this.#on.nextFreeId() ?? '';
    this.#suggestedId = this.#fields.productId.value;
    this.#fields.productName.focus();
  }

  edit(row) {
    this.#open(row, `Edit product ${row.productId}`, 'Save');
    for (const key of KEYS) this.#fields[key].value = row[key];
    this.#fields.productName.select();
  }

  // The product that is being edited changed elsewhere (undefined: it was deleted). Fields that were left alone follow.
  follow(id, row) {
    if (!this.#dialog.open || this.#editing?.productId !== id) return;
    if (!row) {
      this.#note('This product was deleted elsewhere.');
      return;
    }
    // A row that was just saved comes back as a change, and is none of elsewhere's.
    const untouched = KEYS.filter((key) =>
      [this.#editing[key], row[key]].map(String).includes(this.#fields[key].value),
    );
    for (const key of untouched) this.#fields[key].value = row[key];
    this.#editing = row;
    if (untouched.length < KEYS.length) {
      this.#note('This product changed elsewhere; only the fields that you edited will be saved.');
    }
  }

  #open(editing, heading, save) {
    this.#editing = editing;
    this.#fields.productId.readOnly = editing !== null;
    this.#text('#editor-heading', heading);
    this.#text('#editor-save', save);
    this.#text('#editor-error', '');
    this.#note('');
    this.#dialog.showModal();
    this.#check();
  }

  async #submitted(event) {
    event.preventDefault();
    const save = this.#dialog.querySelector('#editor-save');
    if (save.getAttribute('aria-disabled') === 'true') return;
    save.setAttribute('aria-disabled', 'true');
    this.#text('#editor-error', '');
    try {
      await this.#save();
      if (this.#editing === null) this.#form.reset();
      this.#dialog.close();
    } catch (error) {
      this.#text('#editor-error', error.message);
    } finally {
      save.removeAttribute('aria-disabled');
    }
  }

  #save() {
    if (this.#editing === null) return this.#on.create(this.#values(KEYS));
    const edited = KEYS.filter((key) => this.#fields[key].value !== String(this.#editing[key]));
    return edited.length > 0 ? this.#on.patch(this.#editing.productId, this.#values(edited)) : undefined;
  }

  #values(keys) {
    return Object.fromEntries(
      keys.map((key) => [key, NUMBERS.has(key) ? Number(this.#fields[key].value) : this.#fields[key].value]),
    );
  }

  // Numbers that no product can have are refused here; the rest is the server's to judge.
  #check() {
    for (const key of NUMBERS) {
      const field = this.#fields[key];
      const least = key === 'productId' ? 0 : Number.MIN_SAFE_INTEGER;
      const isFit = field.value.trim() === '' || (Number.isSafeInteger(Number(field.value)) && Number(field.value) >= least);
      field.setCustomValidity(isFit ? '' : `Enter a whole number${key === 'productId' ? ', 0 or more' : ''}.`);
    }
  }

  #closed() {
    if (this.#editing !== null) return;
    this.#draft = Object.fromEntries(KEYS.map((key) => [key, this.#fields[key].value]));
    if (['', this.#suggestedId].includes(this.#draft.productId)) delete this.#draft.productId;
  }

  #note(text) {
    this.#text('#editor-note', text);
  }

  #text(selector, text) {
    this.#dialog.querySelector(selector).textContent = text;
  }
}
