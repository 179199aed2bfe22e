package fastly

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// answer is what the API replied.
type answer struct {
	kind   invalidation.Kind
	status int
	header http.Header
	// accepted: the body is what a purge of the kind is answered with.
	accepted bool
	// ours: the body is a JSON object, as all answers of the API are.
	ours bool
}

// verdict returns nil for a purge that was accepted, else an error that a lane
// can act on.
//
// The order matters: a server fault says nothing about the request, and a refusal
// of the token or of the service must never count against the invalidations,
// which would then be given up.
func (a answer) verdict(now time.Time) error {
	switch {
	case a.status >= 500, a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly:
		return a.errorf("the API is out of order")
	case a.status == http.StatusTooManyRequests:
		return sinks.ThrottledError(a.errorf("the account's request limit is used up; lower limits.requests_per_second if it happens often"), pause(a.header, now))
	case a.status == http.StatusUnauthorized:
		return sinks.LaneError(a.errorf("the token is refused; write one that is in force into api_token_file"))
	case a.status == http.StatusForbidden && a.kind == invalidation.Everything:
		return sinks.LaneError(a.errorf("the token may not purge everything; give it the scope purge_all for this service"))
	case a.status == http.StatusForbidden:
		return sinks.LaneError(a.errorf("the token may not purge; give it the scope purge_select for this service"))
	case a.status >= 300 && a.status < 400:
		return sinks.LaneError(a.errorf("a redirect, which is not followed; write the final address into base_url"))
	case !a.ours:
		return a.errorf("the answer is not from the API; a proxy may have given it")
	case a.status == http.StatusNotFound && a.kind == invalidation.URL:
		return sinks.RefusalError(a.errorf("Fastly knows no service for the URL's host"))
	case a.status == http.StatusNotFound:
		return sinks.LaneError(a.errorf("the API does not know the service; check service_id and base_url"))
	case a.status == http.StatusBadRequest, a.status == http.StatusRequestEntityTooLarge, a.status == http.StatusUnprocessableEntity:
		return sinks.RefusalError(a.errorf("the API refuses what the request holds"))
	case a.status >= 400:
		return sinks.LaneError(a.errorf("the API does not take such requests; check base_url"))
	case !a.accepted:
		return a.errorf("the API does not say that the purge was accepted")
	}
	return nil
}

func (a answer) errorf(meaning string) error {
	return fmt.Errorf("fastly: HTTP %d: %s", a.status, meaning)
}

// pause is how long a 429 asks to wait: until the window is renewed, which
// Fastly-RateLimit-Reset tells in seconds since 1970 (docs.fastly.com/api, rate
// limiting), or what Retry-After says. 0 if it says neither.
func pause(h http.Header, now time.Time) time.Duration {
	if d := httpsink.RetryAfter(h, now); d > 0 {
		return d
	}
	reset, err := strconv.ParseInt(h.Get("Fastly-RateLimit-Reset"), 10, 64)
	if err != nil || reset > 1<<40 {
		return 0
	}
	return min(max(time.Unix(reset, 0).Sub(now), 0), httpsink.MaxPause)
}
