// The token with which this page asks, where the server wants one. It comes in the address's fragment, which is never
// sent (`/#token=…`), or is typed in, and is kept as long as the tab.

const KEY = 'rowcast-token';

// Takes the token out of the address, so that it is neither shown nor bookmarked; else the one that is kept.
export function takeToken({ location, history, sessionStorage } = globalThis) {
  const token = new URLSearchParams(location.hash.slice(1)).get('token')?.trim();
  if (!token) return sessionStorage.getItem(KEY);
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, '', location.pathname + location.search);
  return token;
}

// Returns the subprotocols that a WebSocket offers. The server chooses `rowcast`, so that the token is not sent back.
export function subprotocols(token) {
  return token ? ['rowcast', `bearer.${token}`] : [];
}

// The dialog that asks for a token.
export class TokenDialog {
  #dialog;

  // `given(token)` gets the text that was typed in.
  constructor(dialog, given) {
    this.#dialog = dialog;
    const field = dialog.querySelector('input');
    dialog.querySelector('form').addEventListener('submit', () => {
      const token = field.value.trim();
      field.value = '';
      sessionStorage.setItem(KEY, token);
      given(token);
    });
  }

  get isOpen() {
    return this.#dialog.open;
  }

  // `why` is the server's sentence.
  ask(why) {
    this.#dialog.querySelector('.editor-note').textContent = why;
    if (!this.isOpen) this.#dialog.showModal();
  }
}
