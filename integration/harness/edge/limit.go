package edge

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// accountState is what all zones and tokens of an account share.
type accountState struct {
	limits Limits
	tokens map[string]bool
	purges *rate.Limiter
	urls   *rate.Limiter
}

func newAccountState(a Account) *accountState {
	s := &accountState{
		limits: a.Limits,
		tokens: map[string]bool{},
		purges: rate.NewLimiter(rate.Limit(a.Limits.PurgesPerSecond), a.Limits.PurgeBurst),
		urls:   rate.NewLimiter(rate.Limit(a.Limits.URLsPerSecond), max(int(math.Ceil(a.Limits.URLsPerSecond)), a.Limits.URLs)),
	}
	for _, token := range a.Tokens {
		s.tokens[token] = true
	}
	return s
}

// take charges a purge; when the account has too little left it charges nothing
// and returns how long until it has enough.
func (s *accountState) take(p purge, now time.Time) (wait time.Duration, ok bool) {
	bucket, n := s.purges, 1
	if p.kind == Files {
		bucket, n = s.urls, len(p.values)
	}
	if bucket.AllowN(now, n) {
		return 0, true
	}
	missing := float64(n) - bucket.TokensAt(now)
	return time.Duration(missing / float64(bucket.Limit()) * float64(time.Second)), false
}

// left is how much of a limit is left, and in how many seconds all of it is.
type left struct {
	name             string
	remaining, reset int
	quota, window    int
}

func (s *accountState) left(now time.Time) left {
	tokens := max(0, s.purges.TokensAt(now))
	perSecond, burst := float64(s.purges.Limit()), float64(s.purges.Burst())
	return left{
		name:      "burst",
		remaining: int(tokens),
		reset:     int(math.Ceil((burst - tokens) / perSecond)),
		quota:     s.purges.Burst(),
		window:    int(math.Ceil(burst / perSecond)),
	}
}

// write puts the scarcer limit into the headers that every reply carries.
func (l left) write(h http.Header) {
	h.Set("Ratelimit", fmt.Sprintf("%q;r=%d;t=%d", l.name, l.remaining, l.reset))
	h.Set("Ratelimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", l.name, l.quota, l.window))
}

func scarcer(a, b left) left {
	if b.remaining < a.remaining {
		return b
	}
	return a
}

// retryAfter writes the wait in whole seconds, at least one.
func retryAfter(h http.Header, wait time.Duration) {
	h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
}

// apiLimiter is the limit on requests of any sort, per token.
type apiLimiter struct {
	mu      sync.Mutex
	byToken map[string]*apiUse
}

type apiUse struct {
	times   []time.Time // of the requests in the window, oldest first
	blocked time.Time   // until when
}

func newAPILimiter() *apiLimiter { return &apiLimiter{byToken: map[string]*apiUse{}} }

const apiWindowTime = apiWindow * time.Second

// take counts a request; wait is how long the token is blocked.
func (l *apiLimiter) take(token string, quota int, now time.Time) (wait time.Duration, ok bool, rest left) {
	l.mu.Lock()
	defer l.mu.Unlock()
	use := l.byToken[token]
	if use == nil {
		use = &apiUse{}
		l.byToken[token] = use
	}
	rest = left{name: "default", quota: quota, window: apiWindow}
	if wait := use.blocked.Sub(now); wait > 0 {
		rest.reset = int(math.Ceil(wait.Seconds()))
		return wait, false, rest
	}
	first := 0
	for first < len(use.times) && now.Sub(use.times[first]) >= apiWindowTime {
		first++
	}
	use.times = append(use.times[first:], now)
	if len(use.times) > quota {
		use.times, use.blocked = nil, now.Add(apiWindowTime)
		rest.reset = apiWindow
		return apiWindowTime, false, rest
	}
	rest.remaining = quota - len(use.times)
	rest.reset = int(math.Ceil(apiWindowTime.Seconds() - now.Sub(use.times[0]).Seconds()))
	return 0, true, rest
}
