package edge

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// Edge is a cache and its API, one http.Handler: paths below /client/v4/ are the
// API's, with a distribution those below /2020-05-31/distribution/ are CloudFront's, and all others the site's. It is safe for concurrent use.
type Edge struct {
	cfg    Config
	origin http.RoundTripper
	cache  *cache
	zones  map[string]*zoneState
	// distributions are those of CloudFront's API, by id.
	distributions map[string]*distributionState
	// tokens are all that are known, with their status.
	tokens map[string]tokenState
	limits *apiLimiter
	faults faultQueue
	log    *requestLog
	// flights are the fetches of responses that may be stored.
	flights flights

	mu      sync.Mutex
	closed  chan struct{}
	waiting map[*time.Timer]struct{}
}

// tokenState is what verify tells of a token, and how many requests it has.
type tokenState struct {
	status string
	quota  int
}

// zoneState is a zone and the account it belongs to.
type zoneState struct {
	Zone
	account *accountState
}

// New makes an edge. Close it when done.
func New(cfg Config) (*Edge, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Edge{
		cfg:   cfg,
		cache: newCache(cfg.MaxObjects),
		zones: map[string]*zoneState{},

		distributions: map[string]*distributionState{},
		tokens:        map[string]tokenState{},
		limits:        newAPILimiter(),
		log:           &requestLog{size: cfg.LogSize},
		closed:        make(chan struct{}),
		waiting:       map[*time.Timer]struct{}{},
	}
	if cfg.Origin != nil {
		e.origin = handlerTransport{cfg.Origin}
	} else {
		e.origin = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	}
	for _, a := range cfg.Accounts {
		account := newAccountState(a)
		for _, token := range a.Tokens {
			e.tokens[token] = tokenState{"active", a.Limits.apiQuota()}
		}
		for _, token := range a.Expired {
			e.tokens[token] = tokenState{"expired", a.Limits.apiQuota()}
		}
		for _, zone := range a.Zones {
			e.zones[zone.ID] = &zoneState{zone, account}
		}
	}
	for _, d := range cfg.Distributions {
		zone := Zone{ID: d.ID}
		for _, host := range d.Hosts {
			zone.Hosts = append(zone.Hosts, strings.ToLower(host))
		}
		e.distributions[d.ID] = &distributionState{zone: zone, known: map[string]invalidation{}, status: map[string]string{}}
	}
	return e, nil
}

// apiPrefix is the path of Cloudflare's API, under which base URLs end.
const apiPrefix = "/client/v4"

// ServeHTTP answers for the API and for the site.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == apiPrefix || strings.HasPrefix(r.URL.Path, apiPrefix+"/") {
		e.serveAPI(w, r)
		return
	}
	if len(e.distributions) > 0 && strings.HasPrefix(r.URL.Path, cloudfrontPrefix) {
		e.serveCloudFront(w, r)
		return
	}
	e.serveSite(w, r)
}

// later applies a purge after the configured delay, or never if the edge is
// closed before that, and then calls done.
func (e *Edge) later(seq uint64, p purge, zone Zone, done func()) {
	apply := func() {
		e.cache.purge(p, zone)
		e.log.applied(seq, e.cfg.Clock())
		done()
	}
	if *e.cfg.PurgeDelay <= 0 {
		apply()
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.closed:
		return
	default:
	}
	var timer *time.Timer
	timer = time.AfterFunc(*e.cfg.PurgeDelay, func() {
		e.mu.Lock()
		_, wanted := e.waiting[timer]
		delete(e.waiting, timer)
		e.mu.Unlock()
		if wanted {
			apply()
		}
	})
	e.waiting[timer] = struct{}{}
}

// Objects is the number of responses stored.
func (e *Edge) Objects() int { return e.cache.len() }

// Stored reports whether a response for an absolute URL is in the cache, whatever its age and variant.
func (e *Edge) Stored(url string) bool {
	key, err := keyOfURL(url)
	return err == nil && e.cache.holds(key.String())
}

// Requests returns the logged requests to the API with a Seq above after, in
// the order they came in; 0 for all.
func (e *Edge) Requests(after uint64) []Request { return e.log.since(after) }

// Inject makes the next times well-formed purge requests meet a fault, after
// those injected before; times below 0 means all until Heal.
func (e *Edge) Inject(times int, f Fault) { e.faults.add(times, f) }

// Heal drops all faults that have not been met.
func (e *Edge) Heal() { e.faults.clear() }

// Close drops the purges that have not taken effect and ends the requests that
// a fault holds. It does not wait for requests being served.
func (e *Edge) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.closed:
		return nil
	default:
	}
	close(e.closed)
	for timer := range e.waiting {
		timer.Stop()
	}
	clear(e.waiting)
	if t, ok := e.origin.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
	return nil
}
