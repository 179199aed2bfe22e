package cloudflare

import (
	"cmp"
	"path/filepath"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// Budget is the `limits:` block.
type Budget struct {
	// RequestsPerSecond and Burst are for requests by tag, by prefix, or of
	// everything; Cloudflare counts them per account, over all its zones.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	Burst             int     `yaml:"burst"`
	// ItemsPerRequest is at most 100 (Cloudflare's limit on every plan).
	ItemsPerRequest int `yaml:"items_per_request"`
	// APIRequests is how many requests of any sort the token may make in five
	// minutes.
	APIRequests int `yaml:"api_requests"`
	// Account names the budget; sinks that name the same one share it. Empty: all
	// sinks with the same token file do.
	Account string `yaml:"account"`
}

const (
	maxItems = 100
	// apiRequests is what everybody may send to the whole API in five minutes; past
	// it the token is blocked from all of it for five minutes
	// (developers.cloudflare.com/fundamentals/api/reference/limits). Whether purges
	// count is not documented, so they do here.
	apiRequests = 1200
	apiWindow   = 300 // seconds
)

// preset is a plan's purge limits, per account
// (developers.cloudflare.com/cache/how-to/purge-cache, July 2026).
type preset struct {
	perSecond     float64 // requests by tag, prefix, everything
	burst         int
	urlsPerSecond float64
	urls          int // in one request
}

var presets = map[string]preset{
	"free":       {perSecond: 5.0 / 60, burst: 25, urlsPerSecond: 800, urls: 100},
	"pro":        {perSecond: 5, burst: 25, urlsPerSecond: 1500, urls: 100},
	"business":   {perSecond: 10, burst: 50, urlsPerSecond: 1500, urls: 100},
	"enterprise": {perSecond: 50, burst: 500, urlsPerSecond: 3000, urls: 500},
}

// Limits returns what one call may carry: one request's worth, for each zone.
// How often is for Budgets to say.
func (c Config) Limits() sinks.Limits {
	l := sinks.Limits{Items: maxItems, OneKind: true}
	if n := c.Budget.ItemsPerRequest; n > 0 {
		l.Items = n
	}
	l.ByKind[invalidation.URL] = max(1, c.urlsPerRequest()/len(c.Headers.Variants()))
	return l
}

// urlsPerRequest is how many URLs one request may carry, each variant counted.
func (c Config) urlsPerRequest() int {
	return cmp.Or(c.Budget.ItemsPerRequest, presets[c.Plan].urls)
}

// Budgets returns what the account and the token may spend.
func (c Config) Budgets() []sinks.Budget {
	p, b := presets[c.Plan], c.Budget
	if b.RequestsPerSecond > 0 {
		p.perSecond = b.RequestsPerSecond
	}
	if b.Burst > 0 {
		p.burst = b.Burst
	}
	api := apiRequests
	if b.APIRequests > 0 {
		api = b.APIRequests
	}
	requests := newZones(c).requests
	// A bucket lets its burst and five minutes' worth of tokens through in five
	// minutes. What is left of the limit is for check, and for others who use the
	// token.
	apiBurst := max(1, api/20)
	apiBucket := func(share string) sinks.Budget {
		return sinks.Budget{Share: share, PerSecond: (float64(api) - 1.5*float64(apiBurst)) / apiWindow, Burst: apiBurst, Cost: requests}
	}
	file := "cloudflare token " + filepath.Clean(c.APITokenFile)
	account := file
	if b.Account != "" {
		account = "cloudflare account " + b.Account
	}
	variants := len(c.Headers.Variants())
	out := []sinks.Budget{
		{Share: account + ": purges", PerSecond: p.perSecond, Burst: p.burst, Cost: func(batch []invalidation.Invalidation) int {
			if batch[0].Kind == invalidation.URL {
				return 0
			}
			return requests(batch)
		}},
		{Share: account + ": urls", PerSecond: p.urlsPerSecond, Burst: max(int(p.urlsPerSecond), p.urls), Cost: func(batch []invalidation.Invalidation) int {
			if batch[0].Kind != invalidation.URL {
				return 0
			}
			return len(batch) * variants
		}},
		apiBucket(file + ": api"),
	}
	if account != file {
		// Tokens of one user count together, however many there are.
		out = append(out, apiBucket(account+": api"))
	}
	return out
}
