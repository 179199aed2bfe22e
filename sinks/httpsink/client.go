package httpsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxBody bounds what is read of an answer, in bytes; real ones have some hundred.
const MaxBody = 1 << 20

// NewClient returns a client for one API, with at most conns idle connections. It
// goes through the proxy that the environment names, returns redirects as
// answers (to follow one would carry the token to wherever it points), and cuts
// bodies off at MaxBody. It sets no timeout: callers bound each request.
func NewClient(conns int) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: limited{&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConns:        conns,
			MaxIdleConnsPerHost: conns,
			IdleConnTimeout:     90 * time.Second,
		}},
	}
}

// limited cuts answers off, whoever reads them.
type limited struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, MaxBody), resp.Body}
	}
	return resp, err
}

// Unanswered describes why a request got no answer within timeout, without the
// URL, which *url.Error repeats. The context is the caller's, not the request's:
// when it is over, that is the reason.
func Unanswered(ctx context.Context, err error, timeout time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("purge stopped: %w", ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("no answer: %w", err)
}

// BaseURL checks an address that may replace an API's own, which stands where
// raw is empty, and returns it without a slash at its end. The error does not
// repeat raw, since a token may have been put there.
func BaseURL(raw, own string) (*url.URL, error) {
	if raw == "" {
		raw = own
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("write an absolute URL such as " + own)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("no user, password, query or fragment belongs here; the token goes into api_token_file")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}
