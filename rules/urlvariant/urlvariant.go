// Package urlvariant names the variants of a page: a cache may have request headers in the key of
// a page beside host and path, and then each combination of their values is a variant, which is
// purged on its own. The value of an invalidation carries its variant behind the URL.
package urlvariant

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// MaxCombinations bounds the combinations of the values of headers.
const MaxCombinations = 64

// Headers are request headers that a cache has in the key of a page beside host and path, each with the
// values of which every combination is purged. An empty value means a request without the header.
type Headers map[string][]string

// UnmarshalYAML reads a mapping of names to a value or a list of values.
func (h *Headers) UnmarshalYAML(n *strictyaml.Node) error {
	var raw strictyaml.Map[headerValues]
	if err := n.Decode(&raw); err != nil {
		return err
	}
	*h = Headers{}
	for _, e := range raw {
		(*h)[e.Key] = e.Value
	}
	return nil
}

type headerValues []string

// UnmarshalYAML takes a single value for a list of one.
func (v *headerValues) UnmarshalYAML(n *strictyaml.Node) error {
	if n.Kind != strictyaml.Scalar {
		return n.Decode((*[]string)(v))
	}
	*v = make(headerValues, 1)
	return n.Decode(&(*v)[0])
}

var (
	headerName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	headerValue = regexp.MustCompile(`^([!-~]([ -~]{0,254}[!-~])?)?$`)
	// Those that say something about the request itself, or that a client sets.
	ownHeader = regexp.MustCompile(`(?i)^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|user-agent|accept-encoding|walpurge-.*)$`)
)

// Validate reports the first name or value that no request can carry, and too many combinations.
func (h Headers) Validate() error {
	count := 1
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		values, lower := h[name], strings.ToLower(name)
		switch {
		case !headerName.MatchString(name):
			return fmt.Errorf("%q is not the name of a header", name)
		case ownHeader.MatchString(name):
			return fmt.Errorf("%s: this header says something about the request itself; it cannot be set", name)
		case seen[lower]:
			return fmt.Errorf("%s: the header is named twice, names have no case; write one list", name)
		case len(values) == 0:
			return fmt.Errorf("%s: the list is empty; write the values that the cache's key can have, or remove it", name)
		}
		seen[lower] = true
		for i, v := range values {
			if !headerValue.MatchString(v) {
				return fmt.Errorf("%s: value %d: write up to 256 printable ASCII characters, none of them a space at an end", name, i+1)
			}
			if slices.Contains(values[:i], v) {
				return fmt.Errorf("%s: %q stands in the list twice", name, v)
			}
		}
		if count *= len(values); count > MaxCombinations {
			return fmt.Errorf("the lists make more than %d combinations, and each is a purge of its own; purge such pages by tag", MaxCombinations)
		}
	}
	return nil
}

// Variant is one combination: a value for each header.
type Variant map[string]string

// Variants are all combinations, in an order that does not change; the only one without headers is empty.
func (h Headers) Variants() []Variant {
	out := []Variant{{}}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		var next []Variant
		for _, v := range out {
			for _, value := range h[name] {
				one := maps.Clone(v)
				one[name] = value
				next = append(next, one)
			}
		}
		out = next
	}
	return out
}

// With is h with the headers of v in place of those of the same name.
func (h Headers) With(v Variant) Headers {
	out := Headers{}
	for name, values := range h {
		out[name] = values
	}
	for name, value := range v {
		maps.DeleteFunc(out, func(known string, _ []string) bool { return strings.EqualFold(known, name) })
		out[name] = []string{value}
	}
	return out
}

// Of is the value of a header, whatever the case of its name.
func (v Variant) Of(name string) (value string, found bool) {
	for known, value := range v {
		if strings.EqualFold(known, name) {
			return value, true
		}
	}
	return "", false
}

// Separator stands between a URL and its variant. No URL has a space.
const Separator = " "

// Append is the value of an invalidation that purges the variant of a URL: the URL, a space, and the
// headers in the form of a query, sorted by name.
func (v Variant) Append(to string) string {
	if len(v) == 0 {
		return to
	}
	form := url.Values{}
	for name, value := range v {
		form.Set(name, value)
	}
	return to + Separator + form.Encode()
}

var errVariant = errors.New("behind the URL stands no list of headers like X-Device=mobile")

// Cut takes apart what Append put together. A value without headers has an empty variant.
func Cut(value string) (text string, v Variant, err error) {
	text, rest, found := strings.Cut(value, Separator)
	if !found {
		return value, nil, nil
	}
	form, err := url.ParseQuery(rest)
	if err != nil || rest == "" || form.Encode() != rest {
		return "", nil, errVariant
	}
	v = Variant{}
	h := Headers{}
	for name, values := range form {
		if len(values) != 1 {
			return "", nil, errVariant
		}
		v[name], h[name] = values[0], values
	}
	if h.Validate() != nil {
		return "", nil, errVariant
	}
	return text, v, nil
}

// HeaderUse is what a sink does with the headers of rules.
type HeaderUse struct {
	// Taken reports that a purge by URL can name headers, and that each variant is purged by itself.
	Taken bool
	// Reserved are headers that mean something else in its requests.
	Reserved []string
	// Refused says why a rule with headers cannot send URLs to the sink. Empty, with Taken false: it does
	// without them, since a purge by URL removes every variant or the receiver knows them.
	Refused string
}
