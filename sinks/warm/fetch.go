package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Header is sent with each request, so that origin and edge can tell it from a visitor's. Its value is Config's marker.
const Header = "Walpurge-Warm"

// maxBody bounds what is read of a response. An edge that streams may not store a response whose client goes away, so
// a page is read to its end; what is larger than this is cut off.
const maxBody = 64 << 20

// Fetcher fetches pages through an edge. Its methods may be called from any goroutine.
type Fetcher struct {
	base     *url.URL
	prefix   string
	timeout  time.Duration
	variants []urlvariant.Variant
	marker   string
	http     *http.Client
}

// NewFetcher returns a fetcher that has not connected yet. marker is the value of Header. The error is Validate's.
func NewFetcher(cfg Config, marker string) (*Fetcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("warm: %w", err)
	}
	base, err := baseURL(cfg.Base)
	if err != nil {
		return nil, fmt.Errorf("warm: base: %w", err)
	}
	f := &Fetcher{
		base: base, prefix: strings.TrimRight(base.EscapedPath(), "/"), timeout: cfg.Timeout, marker: marker,
		http: httpsink.NewClient(httpsink.Config{Idle: cfg.Concurrency, MaxBody: maxBody + 1, TLS: cfg.TLS}),
	}
	sets := cfg.Variants
	if len(sets) == 0 {
		sets = []urlvariant.Headers{{}}
	}
	for _, set := range sets {
		f.variants = append(f.variants, merged(cfg.Headers, set).Variants()...)
	}
	return f, nil
}

// Close closes idle connections.
func (f *Fetcher) Close() { f.http.CloseIdleConnections() }

// Page is a URL as it is asked for.
type Page struct {
	// Host is sent in the Host header, URI is path and query.
	Host, URI string
	// URL is what an edge purges it by: with a host, and with the headers of its variant.
	URL string
	// variants are the headers of its requests.
	variants []urlvariant.Variant
}

// Requests is how many requests the page takes.
func (p Page) Requests() int { return len(p.variants) }

var errNotURL = errors.New("not a valid URL; write it like https://shop.example/p/a, or as a path of the edge like /p/a")

// Page reads the value of an invalidation: a URL, or the path of one at the host of base, with the headers of its
// variant behind it where the rule has some. The error does not repeat the value.
func (f *Fetcher) Page(value string) (Page, error) {
	text, variant, err := urlvariant.Cut(value)
	if err != nil {
		return Page{}, err
	}
	if strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") {
		text = f.base.Scheme + "://" + f.base.Host + text
	}
	u, err := httpsink.ParseURL(text)
	if err != nil || len(text) > maxURL {
		return Page{}, errNotURL
	}
	p := Page{Host: u.Host, URI: u.RequestURI(), URL: variant.Append(text), variants: f.variants}
	if len(variant) > 0 {
		p.variants = nil
		for _, v := range f.variants {
			set := urlvariant.Headers{}
			for name, one := range v {
				set[name] = []string{one}
			}
			p.variants = append(p.variants, set.With(variant).Variants()...)
		}
	}
	return p, nil
}

// Answer is what came back.
type Answer struct {
	Status int
	Bytes  int64
	// RetryAfter is the pause that the response asks for, 0 for none.
	RetryAfter time.Duration
}

// Good reports that the response is one for a visitor: a redirect and a page that is gone are, too.
func (a Answer) Good() bool {
	return a.Status >= 200 && a.Status < 400 || a.Status == http.StatusNotFound || a.Status == http.StatusGone
}

// Err says what is wrong with a response that is not Good.
func (a Answer) Err() error {
	if a.Good() {
		return nil
	}
	return fmt.Errorf("HTTP %d", a.Status)
}

// Fetch makes one of the requests of a page, and blocks until the whole response was read, at most for the timeout.
// Redirects are responses and not followed. The error repeats neither the address nor the URL; it is
// context.DeadlineExceeded where the edge may still be fetching.
func (f *Fetcher) Fetch(ctx context.Context, p Page, request int) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base.Scheme+"://"+f.base.Host+f.prefix+p.URI, http.NoBody)
	if err != nil {
		return Answer{}, errNotURL
	}
	req.Host = p.Host
	// What browsers send, so that the response is the one that is stored for them.
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	req.Header.Set("User-Agent", "walpurge")
	for name, value := range p.variants[request] {
		req.Header.Del(name)
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	req.Header.Set(Header, f.marker)
	resp, err := f.http.Do(req)
	if err != nil {
		return Answer{}, f.unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.CopyN(io.Discard, resp.Body, maxBody)
	if err != nil && !errors.Is(err, io.EOF) {
		return Answer{}, f.unanswered(ctx, err)
	}
	a := Answer{Status: resp.StatusCode, Bytes: n}
	if a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable {
		a.RetryAfter = httpsink.RetryAfter(resp.Header, time.Now())
	}
	return a, nil
}

func (f *Fetcher) unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no response within %s: %w", f.timeout, context.DeadlineExceeded)
	}
	return httpsink.Unanswered(ctx, err, 0)
}

// Check reports why the edge gives no response to a request of its first page. Any response will do.
func (f *Fetcher) Check(ctx context.Context) error {
	p, err := f.Page("/")
	if err != nil {
		return err
	}
	_, err = f.Fetch(ctx, p, 0)
	if err != nil {
		return fmt.Errorf("warm: base: %w", err)
	}
	return nil
}
