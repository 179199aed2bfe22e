package warm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/walpurge/walpurge/sinks/httpsink"
)

const (
	// maxURLs bounds a list, maxSitemaps the sitemaps of an index, maxSitemap one sitemap before and after it is
	// unpacked (sitemaps.org: 50 MiB and 50,000 URLs each).
	maxURLs        = 1_000_000
	maxSitemaps    = 1000
	maxSitemap     = 64 << 20
	sitemapTimeout = time.Minute
)

// List are the pages of a file or a sitemap, each once, in its order.
type List struct {
	URLs []string
	// Foreign counts URLs, and sitemaps, of other hosts.
	Foreign int
	seen    map[string]bool
	hosts   []string
}

func (l *List) add(text string) error {
	if l.seen[text] {
		return nil
	}
	if len(l.URLs) >= maxURLs {
		return fmt.Errorf("more than %d URLs; warm a part of them", maxURLs)
	}
	l.seen[text] = true
	l.URLs = append(l.URLs, text)
	return nil
}

// ReadURLs reads a list with a URL in each line. Empty lines, and those that begin with #, are left out; so are, and
// counted, URLs whose host is neither that of the first URL nor that of base. An error names the line.
func ReadURLs(r io.Reader, base string) (*List, error) {
	b, err := baseURL(base)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	l := &List{seen: map[string]bool{}, hosts: []string{strings.ToLower(b.Host)}}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxURL+1024)
	n := 0
	for scanner.Scan() {
		n++
		text := strings.TrimSpace(strings.TrimPrefix(scanner.Text(), "\ufeff"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		host := ""
		if !strings.HasPrefix(text, "/") {
			u, err := httpsink.ParseURL(text)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			host = u.Host
		}
		if host != "" && len(l.hosts) == 1 {
			l.hosts = append(l.hosts, host)
		}
		if host != "" && !slices.Contains(l.hosts, host) {
			l.Foreign++
			continue
		}
		if err := l.add(text); err != nil {
			return nil, err
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return l, nil
}

// ReadSitemap fetches a sitemap, and those that it names, gzipped or not. URLs and sitemaps whose host is neither its
// own nor that of base are left out, and counted.
func ReadSitemap(ctx context.Context, address, base string) (*List, error) {
	b, err := baseURL(base)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	u, err := httpsink.ParseURL(address)
	if err != nil {
		return nil, errors.New("not a valid URL; write it like https://shop.example/sitemap.xml")
	}
	l := &List{seen: map[string]bool{}, hosts: []string{strings.ToLower(b.Host), u.Host}}
	client := httpsink.NewClient(httpsink.Config{Idle: 1, MaxBody: maxSitemap + 1, Proxy: true})
	defer client.CloseIdleConnections()
	open, known := []string{u.String()}, map[string]bool{u.String(): true}
	for len(open) > 0 {
		next := open[0]
		open = open[1:]
		body, err := get(ctx, client, next)
		if err != nil {
			return nil, fmt.Errorf("sitemap %s: %w", next, err)
		}
		pages, sitemaps, err := parseSitemap(body)
		if err != nil {
			return nil, fmt.Errorf("sitemap %s: %w", next, err)
		}
		for _, page := range pages {
			switch host := hostOf(page); {
			case host == "":
				return nil, fmt.Errorf("sitemap %s: not a valid URL in a loc", next)
			case !slices.Contains(l.hosts, host):
				l.Foreign++
			default:
				if err := l.add(page); err != nil {
					return nil, fmt.Errorf("sitemap %s: %w", next, err)
				}
			}
		}
		for _, s := range sitemaps {
			switch host := hostOf(s); {
			case known[s]:
			case !slices.Contains(l.hosts, host):
				l.Foreign++
			case len(known) >= maxSitemaps:
				return nil, fmt.Errorf("sitemap %s: more than %d sitemaps; name one of them", next, maxSitemaps)
			default:
				known[s] = true
				open = append(open, s)
			}
		}
	}
	return l, nil
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return strings.ToLower(u.Host)
}

// get fetches a sitemap and unpacks it.
func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sitemapTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, errNotURL
	}
	req.Header.Set("User-Agent", "walpurge")
	resp, err := client.Do(req)
	if err != nil {
		return nil, httpsink.Unanswered(ctx, err, 0)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, fmt.Errorf("HTTP %d: a redirect, which is not followed; write the final address", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, httpsink.Unanswered(ctx, err, 0)
	}
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(z, maxSitemap+1))
		}
		if err != nil {
			return nil, fmt.Errorf("unpack it: %w", err)
		}
	}
	if len(body) > maxSitemap {
		return nil, fmt.Errorf("larger than %d MiB; a sitemap has 50 at most", maxSitemap>>20)
	}
	return body, nil
}

// parseSitemap reads the pages of a sitemap, or the sitemaps of an index. A sitemap may also be a text with a URL in
// each line.
func parseSitemap(body []byte) (pages, sitemaps []string, err error) {
	if text := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\ufeff"))); bytes.HasPrefix(text, []byte("http")) {
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" {
				pages = append(pages, line)
			}
		}
		return pages, nil, nil
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	root, inside := "", ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("not the XML of a sitemap: %w", err)
		}
		start, is := token.(xml.StartElement)
		switch {
		case !is:
		case root == "":
			if root = start.Name.Local; root != "urlset" && root != "sitemapindex" {
				return nil, nil, fmt.Errorf("not a sitemap: its root is %q, want urlset or sitemapindex", root)
			}
		case start.Name.Local == "url" || start.Name.Local == "sitemap":
			inside = start.Name.Local
		// Extensions have a loc of their own, for images and videos.
		case start.Name.Local == "loc" && (start.Name.Space == "" || strings.Contains(start.Name.Space, "sitemaps.org") || strings.Contains(start.Name.Space, "google.com/schemas/sitemap/0")):
			var loc string
			if err := d.DecodeElement(&loc, &start); err != nil {
				return nil, nil, fmt.Errorf("not the XML of a sitemap: %w", err)
			}
			switch loc = strings.TrimSpace(loc); {
			case root == "urlset" && inside == "url":
				pages = append(pages, loc)
			case root == "sitemapindex" && inside == "sitemap":
				sitemaps = append(sitemaps, loc)
			}
		}
	}
	if root == "" {
		return nil, nil, errors.New("not a sitemap: it is empty")
	}
	return pages, sitemaps, nil
}

// ErrDead says that the edge has given no response many times in a row.
var ErrDead = errors.New("the edge gives no response, so the other pages were not tried")

// deadAfter is how many requests in a row without a response end a list.
const deadAfter = 20

// FetchAll fetches pages, and calls each with the outcome of every page, one call at a time. It returns ErrDead where
// the edge is out of order, or the context's error.
func FetchAll(ctx context.Context, f *Fetcher, cfg Config, urls []string, each func(url string, err error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	limiter := rate.NewLimiter(rate.Limit(cfg.RequestsPerSecond), cfg.Concurrency)
	work := make(chan string)
	var all sync.WaitGroup
	var mu sync.Mutex
	silent := 0
	for range cfg.Concurrency {
		all.Go(func() {
			for text := range work {
				err := fetchOne(ctx, f, limiter, text, func(answered bool) {
					mu.Lock()
					defer mu.Unlock()
					if silent++; answered {
						silent = 0
					}
					if silent >= deadAfter {
						stop(ErrDead)
					}
				})
				if ctx.Err() != nil && err != nil && !errors.Is(context.Cause(ctx), ErrDead) {
					continue // it was not tried to the end
				}
				mu.Lock()
				each(text, err)
				mu.Unlock()
			}
		})
	}
	for _, text := range urls {
		select {
		case work <- text:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	all.Wait()
	return context.Cause(ctx)
}

func fetchOne(ctx context.Context, f *Fetcher, limiter *rate.Limiter, text string, note func(answered bool)) error {
	p, err := f.Page(text)
	if err != nil {
		return err
	}
	var first error
	for i := range p.Requests() {
		if err := limiter.Wait(ctx); err != nil {
			return err
		}
		a, err := f.Fetch(ctx, p, i)
		note(err == nil)
		if err == nil {
			err = a.Err()
		}
		if first == nil {
			first = err
		}
		if a.RetryAfter > 0 {
			select {
			case <-time.After(min(a.RetryAfter, time.Minute)):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return first
}
