// The wait before the next attempt to connect. Chance is an argument: 0 ≤ random < 1.

const FIRST_MS = 500;
const LONGEST_MS = 10_000;
const RESTART_MS = 100;
const RESTART_SPREAD_MS = 500;

// The close code of a server that restarts (RFC 6455's registry: "Service Restart").
const SERVICE_RESTART = 1012;

// Exponential from half a second to ten; the upper half of each step is chance, so that the pages of a server that died
// do not all come back in one moment. A server that says that it restarts is back soon, and one that names the time is
// obeyed.
export function delayMs({ attempt, closeCode, hintMs }, random) {
  if (hintMs !== undefined) return hintMs;
  if (closeCode === SERVICE_RESTART && attempt === 0) return RESTART_MS + random * RESTART_SPREAD_MS;
  const step = Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS);
  return step / 2 + (random * step) / 2;
}
