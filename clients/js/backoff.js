// The waits before what failed is tried again. Chance is an argument.

const STEP_MS_MAX = 10_000;
const SERVICE_RESTART = 1012;

// Half is chance, so that not all come back at once.
export function delayMs({ attempt, closeCode, hintMs }, random) {
  if (hintMs !== undefined) return hintMs;
  if (closeCode === SERVICE_RESTART && attempt === 0) return 100 + random * 500;
  const step = Math.min(500 * 2 ** attempt, STEP_MS_MAX);
  return step / 2 + (random * step) / 2;
}

export function pauseMs(failures) {
  return Math.min(1000 * 2 ** failures, 30_000);
}
