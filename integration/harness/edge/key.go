package edge

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// cacheKey is what a response is stored under. Host is in lower case and
// without the scheme's own port; path is escaped and holds the query.
type cacheKey struct{ scheme, host, path string }

func (k cacheKey) String() string { return k.scheme + "://" + k.host + k.path }

// maxURL is the longest URL that the edge serves, in bytes.
const maxURL = 16 << 10

// keyOfURL reads an absolute URL as a purge by URL names it.
func keyOfURL(raw string) (cacheKey, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return cacheKey{}, errors.New("not a URL")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return cacheKey{}, errors.New("not an absolute http or https URL")
	}
	if u.User != nil || strings.Contains(raw, "#") {
		return cacheKey{}, errors.New("a URL with a user or a fragment")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' }) {
		return cacheKey{}, errors.New("a URL with a wildcard, a space or a character outside printable ASCII")
	}
	if len(raw) > maxURL {
		return cacheKey{}, errors.New("a URL too long to have been served")
	}
	return makeKey(u.Scheme, u.Host, u), nil
}

// keyOf reads the public URL of a request to the site.
func (e *Edge) keyOf(r *http.Request) cacheKey {
	scheme, host := "http", r.Host
	if public, err := url.Parse(e.cfg.PublicURL); err == nil && public.Host != "" {
		scheme = public.Scheme
		if isAddress(host) {
			host = public.Host
		}
	}
	return makeKey(scheme, host, r.URL)
}

func makeKey(scheme, host string, u *url.URL) cacheKey {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	own := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return cacheKey{scheme, strings.TrimSuffix(strings.ToLower(host), own), path}
}

func isAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}
