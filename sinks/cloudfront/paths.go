package cloudfront

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// request is one invalidation: paths, and the places in the batch that they are
// for.
type request struct {
	paths  []string
	places []int
}

// wholeSite is every path.
const wholeSite = "/*"

// requests turns a batch into invalidations. failed has the errors of values
// that CloudFront cannot take, by place.
func (c Config) requests(batch []invalidation.Invalidation) (out []request, failed map[int]error) {
	failed = make(map[int]error)
	for _, inv := range batch {
		if inv.Kind == invalidation.Everything {
			// It counts as one path and holds all others.
			all := request{paths: []string{wholeSite}}
			for i := range batch {
				all.places = append(all.places, i)
			}
			return []request{all}, failed
		}
	}
	var plain request
	var wild []request
	for i, inv := range batch {
		paths, err := c.paths(inv)
		if err != nil {
			failed[i] = sinks.ItemError(fmt.Errorf("cloudfront: %w", err))
			continue
		}
		for _, path := range paths {
			if inv.Kind != invalidation.URLPrefix {
				plain.add(path, i)
				continue
			}
			n := len(wild) - 1
			if n < 0 || len(wild[n].paths) == maxWildcards && !slices.Contains(wild[n].paths, path) {
				wild = append(wild, request{})
				n++
			}
			wild[n].add(path, i)
		}
	}
	if len(plain.paths) > 0 {
		out = append(out, plain)
	}
	return append(out, wild...), failed
}

// add puts a path into the request once: hosts are not part of paths, so two
// URLs may be one path.
func (r *request) add(path string, place int) {
	if !slices.Contains(r.places, place) {
		r.places = append(r.places, place)
	}
	if !slices.Contains(r.paths, path) {
		r.paths = append(r.paths, path)
	}
}

// paths are what an invalidation is called in Paths.Items: for a URL and a prefix every spelling that
// visitors can send. A * is a wildcard at the end of a path and nowhere else, a # at its beginning a tag:
// so that no value becomes more than it is, a path may hold no *, and begins with / anyway.
func (c Config) paths(inv invalidation.Invalidation) ([]string, error) {
	switch {
	case inv.Kind == invalidation.Tag && c.Tags:
		return []string{"#" + inv.Value}, checkTag(inv.Value)
	case inv.Kind == invalidation.URL:
		if err := checkPath(inv.Value); err != nil {
			return nil, err
		}
		u, err := httpsink.ParseURL(inv.Value)
		if err != nil {
			return nil, err
		}
		return spelled(u.RequestURI(), "", c.checkHost(u.Host))
	case inv.Kind == invalidation.URLPrefix:
		if err := checkPath(inv.Value); err != nil {
			return nil, err
		}
		host, path, err := httpsink.ParsePrefix(inv.Value)
		if err != nil {
			return nil, err
		}
		return spelled(path, "*", c.checkHost(host))
	case inv.Kind == invalidation.Tag:
		return nil, errors.New("cannot purge by tag; that takes tags: true, and a CacheTagConfig of the distribution")
	}
	return nil, fmt.Errorf("cannot purge by %s", inv.Kind)
}

// Accepts says why the sink can never carry out an invalidation, nil if it may.
func (c Config) Accepts(inv invalidation.Invalidation) error {
	if inv.Kind == invalidation.Everything {
		return nil
	}
	_, err := c.paths(inv)
	return err
}

func (c Config) checkHost(host string) error {
	if c.anyHost || len(c.Hosts) == 0 || slices.ContainsFunc(c.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return nil
	}
	return errors.New("a URL of a host that is not among `hosts`; add it, or send such URLs to another sink")
}

// maxPath is the longest path that CloudFront takes, a * at its end included
// (invalidation-specifying-objects in the developer guide).
const maxPath = 4000

// unsafe are characters that the API takes percent-encoded only, however visitors send them: those that RFC
// 1738 calls unsafe (invalidation-specifying-objects in the developer guide).
var unsafe = strings.NewReplacer("~", "%7E", "[", "%5B", "]", "%5D", "^", "%5E", "|", "%7C", "{", "%7B", "}", "%7D", "`", "%60", `\`, "%5C", `"`, "%22", "<", "%3C", ">", "%3E")

// spelled are the spellings of a path with an end, unless it is refused already or too long.
func spelled(path, end string, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	out := httpsink.Spellings(unsafe.Replace(path))
	for i := range out {
		if out[i] += end; len(out[i]) > maxPath {
			return nil, fmt.Errorf("a path of %d bytes, at most %d fit", len(out[i]), maxPath)
		}
	}
	return out, nil
}

func checkPath(v string) error {
	for i := range len(v) {
		switch c := v[i]; {
		case c <= ' ' || c > '~':
			return fmt.Errorf("a URL with a space, a control or a non-ASCII character (byte %d); percent-encode it", i)
		case c == '*':
			return fmt.Errorf("a URL with a * (byte %d), which is a wildcard; percent-encode it, or name a URL prefix", i)
		}
	}
	return nil
}

// maxTag is the longest tag that CloudFront stores.
const maxTag = 256

// checkTag tells whether CloudFront can have stored a tag of this name
// (invalidation-specifying-tags in the developer guide).
func checkTag(tag string) error {
	if tag == "" {
		return errors.New("an empty tag")
	}
	if len(tag) > maxTag {
		return fmt.Errorf("a tag of %d bytes, at most %d fit; hash long tags in the rule and in the response's header alike", len(tag), maxTag)
	}
	for i := range len(tag) {
		if c := tag[i]; c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("a tag with a space, a comma, a control or a non-ASCII character (byte %d), which no header with tags can carry; escape or hash it in the rule and in the header alike", i)
		}
	}
	return nil
}
