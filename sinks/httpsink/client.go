package httpsink

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxBody bounds what is read of an answer, in bytes; real ones have some hundred.
const MaxBody = 1 << 20

// Config shapes a client.
type Config struct {
	// Proxy honours HTTPS_PROXY and its kind.
	Proxy bool
	// Idle is how many connections to one host are kept for later.
	Idle int
	// MaxBody is where bodies are cut off, in bytes; 0 means MaxBody.
	MaxBody int64
}

// NewClient returns a client that returns redirects as answers: to follow one would
// carry the credentials to wherever it points, and what was to be purged with
// them. It cuts bodies off. It sets no timeout: callers bound each request.
func NewClient(cfg Config) *http.Client {
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
	if cfg.MaxBody == 0 {
		cfg.MaxBody = MaxBody
	}
	return &http.Client{
		Transport:     limited{t, cfg.MaxBody},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limited cuts answers off, whoever reads them.
type limited struct {
	*http.Transport
	most int64
}

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, l.most), resp.Body}
	}
	return resp, err
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
