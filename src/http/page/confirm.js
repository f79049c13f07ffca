// Deleting takes a second click on the same button, soon and without leaving it.

const CONFIRM_MS = 4000;

// Returns true if this click confirms the one before. The second half of a double click confirms nothing.
export function isConfirmed(button, click) {
  if (button.classList.contains('confirming')) return click.detail < 2;
  ask(button);
  return false;
}

function ask(button) {
  const relent = () => {
    clearTimeout(timer);
    button.classList.remove('confirming');
    button.removeEventListener('blur', relent);
    button.removeEventListener('keydown', relentOnEscape);
    button.setAttribute('aria-label', button.dataset.label);
  };
  const relentOnEscape = ({ key }) => key === 'Escape' && relent();
  const timer = setTimeout(relent, CONFIRM_MS);
  button.classList.add('confirming');
  button.setAttribute('aria-label', `Confirm: ${button.dataset.label}`);
  button.addEventListener('blur', relent);
  button.addEventListener('keydown', relentOnEscape);
}
