package warm

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `warm:` block of a sink.
type Config struct {
	// Base is the address of the edge, such as https://shop.example or http://10.0.0.5:6081. Requests go there and
	// nowhere else; the host of a URL is sent in the Host header.
	Base string `yaml:"base"`
	// TLS is for an edge whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Concurrency is how many requests run at the same time.
	Concurrency int `yaml:"concurrency"`
	// RequestsPerSecond bounds the requests.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	// Timeout bounds one request with its response.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAge is how long after the commit a page is worth fetching.
	MaxAge time.Duration `yaml:"max_age"`
	// Headers are sent with each request. A header with several values makes a request for each.
	Headers urlvariant.Headers `yaml:"headers"`
	// Hot names a sink of `after`: only pages are fetched that it had when it purged them.
	Hot string `yaml:"hot"`
	// Variants are sets of headers: each page is fetched once with each set.
	Variants []urlvariant.Headers `yaml:"variants"`
}

const (
	maxConcurrency = 256
	maxRate        = 10_000
	maxTimeout     = 5 * time.Minute
	minMaxAge      = time.Second
	maxMaxAge      = 24 * time.Hour
)

// DefaultConfig returns the values of keys that the file leaves out. It is not valid as it stands: base has no default.
func DefaultConfig() Config {
	return Config{Concurrency: 4, RequestsPerSecond: 50, Timeout: 5 * time.Second, MaxAge: 5 * time.Minute}
}

// Kind is the key of the block.
func (c *Config) Kind() string { return "warm" }

// Kinds are the kinds of values that rules may send to the sink.
func (c *Config) Kinds() invalidation.KindSet { return invalidation.Kinds(invalidation.URL) }

// maxURL keeps a request line below what servers take by default.
const maxURL = 4000

// HeaderUse takes the headers of rules: each variant of a page is fetched.
func (c *Config) HeaderUse() urlvariant.HeaderUse { return urlvariant.HeaderUse{Taken: true} }

// Known returns a copy for Validate in an offline check: an acceptable value replaces each one for which unset
// reports that it names a variable without a value.
func (c *Config) Known(unset func(string) bool) *Config {
	known := *c
	if unset(known.Base) {
		known.Base = "http://offline"
	}
	headers := func(h urlvariant.Headers) urlvariant.Headers {
		out := urlvariant.Headers{}
		for name, values := range h {
			for i, v := range values {
				if unset(v) {
					v = fmt.Sprintf("unset-%d", i)
				}
				out[name] = append(out[name], v)
			}
		}
		return out
	}
	known.Headers, known.Variants = headers(c.Headers), nil
	for _, v := range c.Variants {
		known.Variants = append(known.Variants, headers(v))
	}
	return &known
}

// Validate reports every key that cannot be used, without touching the network. It repeats no value, since a password
// may have been put into one.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := baseURL(c.Base); err != nil {
		errs = append(errs, fmt.Errorf("base: %w", err))
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		fail("concurrency: %d; write a number from 1 to %d", c.Concurrency, maxConcurrency)
	}
	if !(c.RequestsPerSecond > 0 && c.RequestsPerSecond <= maxRate) {
		fail("requests_per_second: write a number above 0 and up to %d", maxRate)
	}
	if c.Timeout <= 0 || c.Timeout > maxTimeout {
		fail("timeout: %s; write a time above 0 and up to %s", c.Timeout, maxTimeout)
	}
	if c.MaxAge < minMaxAge || c.MaxAge > maxMaxAge {
		fail("max_age: %s; write a time from %s to %s", c.MaxAge, minMaxAge, maxMaxAge)
	}
	if err := checkHeaders(c.Headers); err != nil {
		fail("headers: %w", err)
	}
	for i, v := range c.Variants {
		if len(v) == 0 {
			fail("variants: number %d is empty; write headers like {Accept-Language: de}, or remove it", i+1)
		}
		if err := checkHeaders(v); err != nil {
			fail("variants: number %d: %w", i+1, err)
		}
	}
	if n := c.count(); n > urlvariant.MaxCombinations {
		fail("headers and variants make more than %d requests for each page", urlvariant.MaxCombinations)
	}
	return errors.Join(errs...)
}

// count is how many requests a page takes.
func (c *Config) count() int {
	combinations := func(h urlvariant.Headers) int {
		n := 1
		for _, values := range h {
			n = min(n*max(1, len(values)), urlvariant.MaxCombinations+1)
		}
		return n
	}
	if len(c.Variants) == 0 {
		return combinations(c.Headers)
	}
	total := 0
	for _, v := range c.Variants {
		total = min(total+combinations(merged(c.Headers, v)), urlvariant.MaxCombinations+1)
	}
	return total
}

var (
	headerName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	headerValue = regexp.MustCompile(`^([!-~]([ -~]{0,998}[!-~])?)?$`)
	// ownHeader are headers that say something about the request itself, or that the fetcher sets.
	ownHeader = regexp.MustCompile(`(?i)^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|range|if-.*|walpurge-.*)$`)
)

func checkHeaders(h urlvariant.Headers) error {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch lower := strings.ToLower(name); {
		case !headerName.MatchString(name):
			return fmt.Errorf("%q is not the name of a header", name)
		case ownHeader.MatchString(name):
			return fmt.Errorf("%s: this header says something about the request itself; it cannot be set", name)
		case seen[lower]:
			return fmt.Errorf("%s: the header is named twice, names have no case; write one list", name)
		case len(h[name]) == 0:
			return fmt.Errorf("%s: the list is empty; write a value, or remove the header", name)
		default:
			seen[lower] = true
		}
		for i, v := range h[name] {
			if !headerValue.MatchString(v) {
				return fmt.Errorf("%s: value %d: write up to 1000 printable ASCII characters, none of them a space at an end", name, i+1)
			}
			if slices.Contains(h[name][:i], v) {
				return fmt.Errorf("%s: value %d stands in the list twice", name, i+1)
			}
		}
	}
	return nil
}

// merged is h with the headers of over in place of those of the same name.
func merged(h, over urlvariant.Headers) urlvariant.Headers {
	out := maps.Clone(h)
	if out == nil {
		out = urlvariant.Headers{}
	}
	for name, values := range over {
		maps.DeleteFunc(out, func(known string, _ []string) bool { return strings.EqualFold(known, name) })
		out[name] = values
	}
	return out
}

// baseURL reads the address of the edge. The error does not repeat it.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, errors.New("write the address of the edge, such as https://shop.example")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || !httpsink.IsHost(u.Host):
		return nil, errors.New("not an address; write one such as https://shop.example or http://10.0.0.5:6081")
	case u.User != nil:
		return nil, errors.New("a user and a password do not belong here; write headers: {Authorization: \"${NAME}\"}")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("a query or a fragment does not belong here; URLs bring their own")
	}
	return u, nil
}
