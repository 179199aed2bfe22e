package edge

// Plan names a set of limits.
type Plan string

// The plans.
const (
	Free       Plan = "free"
	Pro        Plan = "pro"
	Business   Plan = "business"
	Enterprise Plan = "enterprise"
)

// Limits bound what one account may purge, over all its zones.
type Limits struct {
	// PurgesPerSecond and PurgeBurst are the token bucket of requests by tag,
	// host or prefix, or of everything.
	PurgesPerSecond float64
	PurgeBurst      int
	// Items is the largest number of tags, hosts or prefixes in a request.
	Items int
	// URLsPerSecond is the rate of URLs in requests by URL.
	URLsPerSecond float64
	// URLs is the largest number of URLs in a request.
	URLs int
	// APIRequests is how many requests of any sort a token may make in five
	// minutes; 0: the 1,200 that everybody has.
	APIRequests int
}

// apiQuota is the limit on requests of any sort.
func (l Limits) apiQuota() int {
	if l.APIRequests > 0 {
		return l.APIRequests
	}
	return apiRequests
}

// LimitsOf returns the published limits of a plan
// (developers.cloudflare.com/cache/how-to/purge-cache); false without one
// of that name.
func LimitsOf(p Plan) (Limits, bool) {
	limits, ok := map[Plan]Limits{
		Free:       {PurgesPerSecond: 5.0 / 60, PurgeBurst: 25, Items: 100, URLsPerSecond: 800, URLs: 100},
		Pro:        {PurgesPerSecond: 5, PurgeBurst: 25, Items: 100, URLsPerSecond: 1500, URLs: 100},
		Business:   {PurgesPerSecond: 10, PurgeBurst: 50, Items: 100, URLsPerSecond: 1500, URLs: 100},
		Enterprise: {PurgesPerSecond: 50, PurgeBurst: 500, Items: 100, URLsPerSecond: 3000, URLs: 500},
	}[p]
	return limits, ok
}

// The limits of the whole API, on every plan
// (developers.cloudflare.com/fundamentals/api/reference/limits).
const (
	apiRequests = 1200
	apiWindow   = 300 // seconds; also how long a token is blocked after more
)
