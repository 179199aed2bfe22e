package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Config shapes a client.
type Config struct {
	// Proxy honours HTTPS_PROXY and its kind.
	Proxy bool
	// Idle is how many connections to one host are kept for later.
	Idle int
}

// Client returns a client that follows no redirect: one would carry the
// credentials to wherever it points, and what was to be purged with them.
func Client(cfg Config) *http.Client {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: cfg.Idle,
		IdleConnTimeout:     90 * time.Second,
	}
	if cfg.Proxy {
		t.Proxy = http.ProxyFromEnvironment
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Answer is what came back, without its body.
type Answer struct {
	Status int
	Header http.Header
}

// maxBody bounds what is read of a body that nobody looks at, so that the
// connection can be used again.
const maxBody = 64 << 10

// Do sends a request and blocks until the answer is complete: one that breaks
// off is none. The error is redacted.
func Do(client *http.Client, req *http.Request) (Answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, Unanswered(req.Context(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, maxBody); err != nil && !errors.Is(err, io.EOF) {
		return Answer{}, Unanswered(req.Context(), err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header}, nil
}

// Unanswered says that a request got no answer, without the URL that net/http
// puts into its errors.
func Unanswered(ctx context.Context, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	return fmt.Errorf("no answer: %w", err)
}

// maxPause bounds what an answer can ask for.
const maxPause = time.Hour

// RetryAfter reads the pause that an answer asks for, in whole seconds or as a
// date (RFC 9110, section 10.2.3); 0 if there is none, at most an hour.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxPause)
	}
	seconds, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return 0
	}
	return time.Duration(min(seconds, uint64(maxPause/time.Second))) * time.Second
}
