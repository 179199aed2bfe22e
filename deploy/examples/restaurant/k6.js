// The restaurant chain's load for teams that use k6: k6 run -e SITE=https://restaurant.example k6.js
//
// Stages are as in the scenario; RATE is what the site sustains without caches, in requests a second.
import http from 'k6/http'
import { check } from 'k6'
import { Rate } from 'k6/metrics'

const site = __ENV.SITE || 'http://127.0.0.1:8080'
const rate = Number(__ENV.RATE || '500')

// What seed.sql has.
const stores = 2000
const accounts = 20000
const orders = 5000

/** The part of the cacheable responses that Varnish had. */
const edgeHits = new Rate('edge_hits')

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: {
    baseline: arrivals(0.2, '0s'),
    peak: arrivals(0.6, '1m'),
    double_peak: arrivals(1.2, '2m'),
  },
  thresholds: {
    http_req_failed: ['rate<0.01'],
    'http_req_duration{scenario:peak}': ['p(95)<100'],
    'http_req_duration{endpoint:place order}': ['p(95)<200'],
    edge_hits: ['rate>0.5'],
  },
}

/**
 * An open model: requests are sent at their times, however long the answers take.
 * @param {number} share of the rate
 * @param {string} startTime
 * @returns {import('k6/options').Scenario}
 */
function arrivals(share, startTime) {
  return {
    executor: 'constant-arrival-rate',
    rate: Math.round(share * rate),
    timeUnit: '1s',
    duration: '1m',
    startTime,
    preAllocatedVUs: 50,
    maxVUs: 1000,
  }
}

/** Sums of 1/k^0.9: the store k is as likely as 1/k^0.9. */
const upTo = [0]
for (let k = 1; k <= stores; k++) upTo.push(upTo[k - 1] + 1 / k ** 0.9)

/** A store, the busy ones more often. */
function store() {
  const at = Math.random() * upTo[stores]
  let low = 1
  let high = stores
  while (low < high) {
    const middle = (low + high) >> 1
    if (upTo[middle] < at) low = middle + 1
    else high = middle
  }
  return low
}

/** A guest, who has an account. */
function guest() {
  const perStore = accounts / stores
  return (store() - 1) * perStore + Math.floor(Math.random() * perStore) + 1
}

export default function () {
  const n = Math.random() * 100
  if (n >= 95) {
    const placed = http.post(`${site}/orders?store=${store()}&account=${guest()}`, null, { tags: { endpoint: 'place order' } })
    check(placed, { 'the order is placed': r => r.status === 200 })
    return
  }
  let endpoint = 'menu'
  let path = `/stores/${store()}/menu`
  if (n >= 85) {
    endpoint = 'order'
    path = `/orders/${Math.min(orders, store() * 2 + Math.floor(Math.random() * 2))}`
  } else if (n >= 70) {
    endpoint = 'loyalty'
    path = `/loyalty/${guest()}`
  } else if (n >= 55) {
    endpoint = 'store'
    path = `/stores/${store()}`
  }
  const response = http.get(site + path, { tags: { endpoint } })
  edgeHits.add((response.headers['X-Cache'] || '').startsWith('HIT'), { endpoint })
  check(response, { 'status is 200': r => r.status === 200 })
}
