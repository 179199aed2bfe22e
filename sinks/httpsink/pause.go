package httpsink

import (
	"net/http"
	"strconv"
	"time"
)

// MaxPause bounds what an answer can ask for.
const MaxPause = time.Hour

// RetryAfter reads the pause that an answer asks for, in whole seconds or as a
// date (RFC 9110, section 10.2.3); 0 without one.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), MaxPause)
	}
	seconds, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return 0
	}
	return time.Duration(min(seconds, uint64(MaxPause/time.Second))) * time.Second
}
