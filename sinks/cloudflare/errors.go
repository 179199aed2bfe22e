package cloudflare

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Error codes of the API. Cloudflare publishes no table for purges; these were
// seen in its answers and in reports of users.
var (
	throttleCodes = []int64{971, 10429}
	// A malformed token is a 400 with 6003, 6111.
	authCodes = []int64{6003, 6102, 6103, 6111, 9103, 9106, 9107, 9109, 10000, 10001}
	zoneCodes = []int64{1001, 7000, 7003}
	planCodes = []int64{1107}
	// What a request holds, seen in a 200 as well: no purge kind, not an array, an
	// item too long, one not printable. The 1016 beside the last two only says that
	// something failed.
	requestCodes = []int64{1012, 1014, 1100, 1315}
)

// maxCodes bounds how many error codes of one answer are looked at.
const maxCodes = 5

// answer is what the API replied.
type answer struct {
	zone     string // a host of it; empty when there is one only
	status   int
	header   http.Header
	readable bool // the body is an envelope
	success  bool
	codes    []int64
}

func (a answer) has(codes []int64) bool {
	return slices.ContainsFunc(a.codes, func(c int64) bool { return slices.Contains(codes, c) })
}

// verdict returns nil for a purge that was accepted, else an error that a lane
// can act on.
//
// The order matters: a server fault says nothing about the request, whatever
// its body holds, and a refusal of the token or of the zone must never count
// against the invalidations, which would then be given up.
func (a answer) verdict(now time.Time) error {
	switch {
	case a.status >= 500, a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly:
		return a.errorf("the API is out of order")
	case a.status == http.StatusTooManyRequests || a.has(throttleCodes):
		return sinks.ThrottledError(a.errorf("the account's request limit is used up; lower limits.requests_per_second if it happens often"), httpsink.RetryAfter(a.header, now))
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.has(authCodes):
		return sinks.LaneError(a.errorf("the token is refused; give the one in api_token_file the Cache Purge permission for this zone"))
	case a.status == http.StatusNotFound || a.has(zoneCodes):
		return sinks.LaneError(a.errorf("the API does not know the zone; check its id and base_url"))
	case a.has(planCodes):
		return sinks.LaneError(a.errorf("the zone's plan does not allow purges by tag"))
	case a.status >= 300 && a.status < 400:
		return sinks.LaneError(a.errorf("a redirect, which is not followed; write the final address into base_url"))
	case !a.readable:
		return a.errorf("the answer is not from the API; a proxy may have given it")
	case a.status == http.StatusBadRequest, a.status == http.StatusRequestEntityTooLarge,
		a.status == http.StatusUnprocessableEntity, a.has(requestCodes):
		return sinks.RefusalError(a.errorf("the API refuses what the request holds"))
	case a.status >= 400:
		return sinks.LaneError(a.errorf("the API does not take such requests; check base_url"))
	case !a.success:
		return a.errorf("the API says that the purge did not succeed")
	}
	return nil
}

func (a answer) errorf(meaning string) error {
	where := "HTTP " + strconv.Itoa(a.status)
	if a.zone != "" {
		where = "zone of " + a.zone + ": " + where
	}
	for _, c := range a.codes {
		where += ", code " + strconv.FormatInt(c, 10)
	}
	if ray := a.header.Get("Cf-Ray"); isRay(ray) {
		where += ", ray " + ray
	}
	return fmt.Errorf("cloudflare: %s: %s", where, meaning)
}

// isRay keeps everything out of errors that is not the id by which Cloudflare's
// support finds a request.
func isRay(s string) bool {
	return len(s) >= 16 && len(s) <= 24 && strings.Trim(s, "0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZ-") == ""
}
