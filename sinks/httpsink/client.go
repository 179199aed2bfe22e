package httpsink

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/sinks"
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
	TLS     TLS
}

// TLS is the `tls:` block of a sink that speaks HTTPS.
type TLS struct {
	// CAFile holds the certificates of the issuers to trust, in PEM; empty means those of the system. It is read again
	// for every request.
	CAFile string `yaml:"ca_file"`
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
		Transport:     &transport{Transport: t, most: cfg.MaxBody, caFile: cfg.TLS.CAFile},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// transport cuts answers off, and trusts what a file says.
type transport struct {
	*http.Transport
	most   int64
	caFile string
	// mu guards trusting, which has the content of the file as its authorities.
	mu       sync.Mutex
	pem      []byte
	trusting *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	over := t.Transport
	if t.caFile != "" {
		var err error
		if over, err = t.trust(); err != nil {
			if r.Body != nil {
				_ = r.Body.Close()
			}
			return nil, err
		}
	}
	resp, err := over.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, t.most), resp.Body}
	}
	return resp, err
}

// trust returns the transport for the file as it is now.
func (t *transport) trust() (*http.Transport, error) {
	pem, err := readfile.Read(t.caFile, readfile.MaxCertificate)
	if err != nil {
		return nil, sinks.LaneError(fmt.Errorf("tls.ca_file: %w; make it readable for this process", err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trusting != nil && bytes.Equal(pem, t.pem) {
		return t.trusting, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, sinks.LaneError(fmt.Errorf("tls.ca_file: %s holds no certificate in PEM", t.caFile))
	}
	if t.trusting != nil {
		t.trusting.CloseIdleConnections()
	}
	t.pem, t.trusting = pem, t.Clone()
	t.trusting.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return t.trusting, nil
}

// CloseIdleConnections is called by that of http.Client.
func (t *transport) CloseIdleConnections() {
	t.Transport.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trusting != nil {
		t.trusting.CloseIdleConnections()
	}
}

// CheckPlain refuses http:// to another machine unless that is allowed: what is sent there, a token among
// it, can be read and changed on the way.
func CheckPlain(u *url.URL, allowed bool) error {
	if u.Scheme != "http" || allowed || u.Hostname() == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("http:// to another machine is neither secret nor safe from change; write https://, or allow_http: true where the network is trusted")
}

// BaseURL checks an address that may replace an API's own, which is used where
// raw is empty, and returns it without a slash at its end. http:// to another machine needs allowHTTP. The
// error does not repeat raw, since a token may have been put there.
func BaseURL(raw, own string, allowHTTP bool) (*url.URL, error) {
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
	if err := CheckPlain(u, allowHTTP); err != nil {
		return nil, err
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}
