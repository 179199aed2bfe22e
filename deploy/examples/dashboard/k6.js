// The dashboard API's load for teams that use k6: k6 run -e SITE=https://dashboard.example k6.js
//
// Stages are as in the scenario; RATE is what the API sustains without a cache, in requests a second.
import http from 'k6/http'
import { check } from 'k6'
import { Rate } from 'k6/metrics'

const site = __ENV.SITE || 'http://127.0.0.1:8000'
const rate = Number(__ENV.RATE || '500')

// What seed.sql has.
const accounts = 200
const users = 2000

/** The part of the cacheable responses that needed no read of the database. */
const hits = new Rate('cache_hits')

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: {
    peak: arrivals(0.6, '0s'),
    outage: arrivals(0.6, '1m'), // kill Valkey in this minute
    double_peak: arrivals(1.2, '2m'),
  },
  thresholds: {
    http_req_failed: ['rate<0.01'],
    'http_req_failed{scenario:outage}': ['rate==0'],
    'http_req_duration{scenario:peak}': ['p(95)<100'],
    'cache_hits{scenario:peak}': ['rate>0.8'],
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
  const n = Math.random() * 100
  let endpoint = 'summary'
  let path = `/accounts/${popular(accounts)}/summary`
  if (n < 35) {
    endpoint = 'preferences'
    path = `/users/${popular(users)}/preferences`
  } else if (n >= 80) {
    endpoint = 'live'
    path = `/accounts/${popular(accounts)}/live`
  }
  const response = http.get(site + path, { tags: { endpoint } })
  if (endpoint !== 'live') hits.add(response.headers['Filled'] === '0', { endpoint })
  check(response, { 'status is 200': r => r.status === 200 })
}
