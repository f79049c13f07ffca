// The REST resource under concurrent users: create, read, replace, patch, list, delete, and what has to be refused with
// 400, 404 and 409.

import exec from 'k6/execution';
import { knobs as knobsOf } from './lib/knobs.js';
import { trendStats } from './lib/metrics.js';
import { useOnce } from './lib/rest.js';
import { summary } from './lib/summary.js';

const knobs = knobsOf({ VUS: 4, DURATION: '10s', HTTP_P95_MS: 100, HTTP_P99_MS: 250 });

export const options = {
  scenarios: {
    users: { executor: 'constant-vus', vus: knobs.VUS, duration: `${knobs.DURATION}ms`, gracefulStop: '10s' },
  },
  thresholds: {
    checks: ['rate==1'],
    http_req_failed: ['rate==0'],
    http_req_duration: [`p(95)<${knobs.HTTP_P95_MS}`, `p(99)<${knobs.HTTP_P99_MS}`],
    iterations: ['count>0'],
  },
  summaryTrendStats: trendStats,
};

// Every iteration has a product of its own, and the id after it is free.
export default function () {
  useOnce(knobs.BASE_URL, knobs.FIRST_ID + 2 * exec.scenario.iterationInTest);
}

export const handleSummary = (data) => summary('rest', knobs, data);
