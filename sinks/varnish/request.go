package varnish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// request is what every node is sent.
type request struct {
	// kind is what is purged.
	kind   invalidation.Kind
	method string
	// value is the URL as rules name it, of a purge by URL.
	value string
	// host is the Host header, empty for the node's own.
	host string
	// path is a path with its query, as it stands in the request line.
	path   url.URL
	header http.Header
}

// maxHeader bounds the header that carries values. Varnish takes lines of
// 8 KiB by default (parameter http_req_hdr_len).
const maxHeader = 4000

// softHeader asks for expiry instead of removal, banHeader carries a ban.
const (
	softHeader = "Soft-Purge"
	banHeader  = "Ban"
)

// everything holds for every object, whatever headers it has, and can be tested
// by the ban lurker.
const everything = "obj.status != 0"

// requests turns a batch into requests. failed has the errors of values that no
// request can carry, by place.
func (c Config) requests(batch []invalidation.Invalidation) (out []request, failed map[int]error) {
	failed = make(map[int]error)
	var tags []string
	prefixes := make(map[string][]string)
	for i, inv := range batch {
		var err error
		switch {
		case !c.Kinds().Has(inv.Kind):
			err = fmt.Errorf("cannot purge by %s%s", inv.Kind, hint(inv.Kind))
		case inv.Kind == invalidation.Everything:
			return []request{ban(inv.Kind, everything)}, nil
		case inv.Kind == invalidation.Tag:
			if err = checkTag(inv.Value); err == nil {
				tags = append(tags, inv.Value)
			}
		case inv.Kind == invalidation.URL:
			var rr []request
			if rr, err = c.urlRequests(inv.Value); err == nil {
				out = append(out, rr...)
			}
		case inv.Kind == invalidation.URLPrefix:
			var host, pattern string
			if host, pattern, err = prefixPattern(inv.Value); err == nil {
				prefixes[host] = append(prefixes[host], pattern)
			}
		}
		if err != nil {
			failed[i] = sinks.ItemError(fmt.Errorf("varnish: %w", err))
		}
	}
	for _, joined := range join(tags, " ") {
		out = append(out, c.tagRequest(joined))
	}
	for _, host := range sorted(prefixes) {
		for _, joined := range join(prefixes[host], "|") {
			out = append(out, prefixBan(host, joined))
		}
	}
	return out, failed
}

// Accepts says why the sink can never carry out an invalidation, nil if it may.
func (c Config) Accepts(inv invalidation.Invalidation) error {
	_, failed := c.requests([]invalidation.Invalidation{inv})
	return failed[0]
}

func hint(k invalidation.Kind) string {
	if k == invalidation.URLPrefix || k == invalidation.Everything {
		return "; that takes bans: true, and the VCL for it"
	}
	return ""
}

func (c Config) soften(r request) request {
	if c.Soft {
		r.header.Set(softHeader, "1")
	}
	return r
}

// tagRequest purges tags, which are separated by spaces.
func (c Config) tagRequest(joined string) request {
	return c.soften(request{
		kind: invalidation.Tag, method: "PURGE", path: url.URL{Path: "/"},
		header: http.Header{http.CanonicalHeaderKey(c.Header): {joined}},
	})
}

func ban(kind invalidation.Kind, expression string) request {
	return request{kind: kind, method: "BAN", path: url.URL{Path: "/"}, header: http.Header{banHeader: {expression}}}
}

// prefixBan bans what begins with one of the paths, which are escaped and separated by |.
func prefixBan(host, paths string) request {
	return ban(invalidation.URLPrefix, "obj.http.Walpurge-Host == "+host+" && obj.http.Walpurge-Url ~ ^(?:"+paths+")")
}

// checkName is a tag, and in its forms a URL and a prefix, that no application uses.
const checkName = "walpurge-check"

// control is a request of the same kind that every VCL which purges by this kind carries out, and that
// removes nothing.
func (c Config) control(kind invalidation.Kind) request {
	switch kind {
	case invalidation.Tag:
		return c.tagRequest(checkName + " " + checkName + "-2")
	case invalidation.URL:
		return c.soften(request{kind: kind, method: "PURGE", path: url.URL{Path: "/" + checkName}, header: http.Header{}})
	}
	return prefixBan(checkName+".invalid", "/")
}

// join puts values together into as few texts as their length allows.
func join(values []string, separator string) (out []string) {
	for _, v := range values {
		if n := len(out) - 1; n >= 0 && len(out[n])+len(separator)+len(v) <= maxHeader {
			out[n] += separator + v
			continue
		}
		out = append(out, v)
	}
	return out
}

func sorted(m map[string][]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// maxURL and maxPrefix are the longest URL and URL prefix that are sent.
const (
	maxURL    = 4000
	maxPrefix = 2048
)

// checkTag tells whether the xkey module can have stored a tag of this name: it
// takes keys apart at white space and commas.
func checkTag(tag string) error {
	if tag == "" {
		return errors.New("an empty tag")
	}
	return visible("a tag", tag, ",", maxHeader)
}

// visible demands printable ASCII without spaces.
func visible(what, v, without string, limit int) error {
	if len(v) > limit {
		return fmt.Errorf("%s of %d bytes, at most %d fit; hash long ones in the rule and in the application alike", what, len(v), limit)
	}
	for i := range len(v) {
		if c := v[i]; c <= ' ' || c > '~' || strings.IndexByte(without, c) >= 0 {
			return fmt.Errorf("%s with a space, a comma, a control or a non-ASCII character (byte %d), which cannot be told from the end of it; escape or hash it in the rule and in the application alike", what, i)
		}
	}
	return nil
}

// protoHeader says by which scheme a visitor came to whatever ended TLS in front of Varnish.
const protoHeader = "X-Forwarded-Proto"

// urlRequests purge one URL: Varnish finds an object by its Host header, by path and query to the letter,
// and by the headers that vcl_hash reads.
func (c Config) urlRequests(value string) ([]request, error) {
	value, variant, err := urlvariant.Cut(value)
	if err != nil {
		return nil, err
	}
	if err := visible("a URL", value, "", maxURL); err != nil {
		return nil, err
	}
	u, err := httpsink.ParseURL(value)
	if err != nil {
		return nil, err
	}
	for name := range variant {
		if c.reserved(name) {
			return nil, fmt.Errorf("the header %s means something else in purges", name)
		}
	}
	host, https := u.Host, u.Scheme == "https"
	u.Host, u.Scheme = "", ""
	var out []request
	for _, v := range c.Headers.With(variant).Variants() {
		h := http.Header{}
		if _, named := v.Of(protoHeader); https && !named {
			h.Set(protoHeader, "https")
		}
		for name, value := range v {
			if value != "" {
				h.Set(name, value)
			}
		}
		out = append(out, c.soften(request{kind: invalidation.URL, method: "PURGE", value: value, host: host, path: u, header: h}))
	}
	return out, nil
}

// prefixPattern takes host and path prefix apart. A ban's text is cut at white
// space alone, where a word's place says what it is: so what has none cannot
// become an operator or a second condition, and what is escaped as a regular
// expression matches itself only.
func prefixPattern(value string) (string, string, error) {
	if err := visible("a URL prefix", value, "", maxPrefix); err != nil {
		return "", "", err
	}
	host, path, err := httpsink.ParsePrefix(value)
	if err != nil {
		return "", "", err
	}
	return host, regexp.QuoteMeta(path), nil
}

// http makes the request for one node.
func (r *request) http(ctx context.Context, s server) *http.Request {
	u := r.path
	u.Scheme, u.Host = s.scheme, s.host
	h := r.header.Clone()
	h.Set("User-Agent", "walpurge")
	// An empty list sends nothing, and lets net/http repeat the request when the
	// server has closed an idle connection.
	h["Idempotency-Key"] = []string{}
	host := r.host
	if host == "" {
		host = s.host
	}
	return (&http.Request{Method: r.method, URL: &u, Header: h, Host: host}).WithContext(ctx)
}
