// The storefront's load for teams that use k6: k6 run -e SITE=https://storefront.example k6.js
//
// Stages are as in the scenario; RATE is what the site sustains without caches, in requests a second.
import http from 'k6/http'
import { check } from 'k6'
import { Counter, Rate } from 'k6/metrics'

const site = __ENV.SITE || 'http://127.0.0.1:3000'
const rate = Number(__ENV.RATE || '200')

const merchants = 24
const categories = 4
const productsPerMerchant = 40

/** The part of the responses that came from the CDN. */
const edgeHits = new Rate('edge_hits')
/** Reads of the database that responses needed. */
const reads = new Counter('database_reads')

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: {
    baseline: arrivals(0.3, '0s'),
    peak: arrivals(0.6, '1m'),
    double_peak: arrivals(1.2, '2m'),
  },
  thresholds: {
    http_req_failed: ['rate<0.01'],
    'http_req_duration{scenario:peak}': ['p(95)<200'],
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

/**
 * A number from 1 to n: a tenth of them gets half of the requests.
 * @param {number} n
 */
function popular(n) {
  return 1 + Math.floor(n * Math.random() ** 3.3)
}

export default function () {
  const merchant = popular(merchants)
  const kind = Math.random()
  let path = ''
  let endpoint = 'listing'
  if (kind < 0.5) {
    path = `/merchants/${merchant}/products?category=0&page=${Math.random() < 0.2 ? 2 : 1}`
  } else if (kind < 0.7) {
    endpoint = 'category'
    path = `/merchants/${merchant}/products?category=${1 + Math.floor(Math.random() * categories)}&page=1`
  } else {
    endpoint = 'product'
    // seed.sql gives product n to merchant 1 + n % 24.
    const id = merchants * (popular(productsPerMerchant) - 1) + merchant - 1
    path = `/merchants/${merchant}/products/${id || merchants * (productsPerMerchant - 1)}`
  }
  const response = http.get(site + path, { tags: { endpoint } })
  const fromEdge = ['HIT', 'UPDATING'].includes(response.headers['Cf-Cache-Status'] || '')
  edgeHits.add(fromEdge, { endpoint })
  if (!fromEdge) reads.add(Number(response.headers['Filled'] || '0'), { endpoint })
  check(response, { 'status is 200': r => r.status === 200 })
}
