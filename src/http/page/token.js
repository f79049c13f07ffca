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

// Returns the token if it can be sent as a JWT (RFC 7515, §7.1), else null: a browser opens no socket and sends no request
// with another, so that nobody would hear that it is not accepted.
export function sendable(token) {
  return token && /^[\w.-]+$/.test(token) ? token : null;
}

// Returns true if the token that is sent lets the page read every product.
export function readsAll(token) {
  const claims = token ? claimsOf(token) : null;
  return claims === null || claims.rowcast?.read === '*';
}

// Returns true if a page with this token may try to write. The server decides; this is only so that nothing is offered
// that cannot work. Where no token is needed everybody may, and a token that is no JWT says nothing.
export function mayWrite(token) {
  const claims = token ? claimsOf(token) : null;
  return claims === null || claims.rowcast?.write === true;
}

// Returns the sentence for somebody whose token was not taken, at a time in seconds since 1970.
export function refusalText(token, seconds) {
  if (!token) return 'Enter the token that you were given.';
  const exp = claimsOf(token)?.exp;
  if (typeof exp === 'number' && exp <= seconds) return 'Your token has expired. Enter a new one.';
  return 'This token was not accepted. Check that it is complete, or ask for a new one.';
}

// The claims of a JWT (RFC 7519, §7.2), unchecked; null if it is none.
function claimsOf(token) {
  try {
    const base64 = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === 'object' ? claims : null;
  } catch {
    return null;
  }
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

  // `why`: a sentence for who has to enter one.
  ask(why) {
    this.#dialog.querySelector('.editor-note').textContent = why;
    if (!this.isOpen) this.#dialog.showModal();
  }
}
