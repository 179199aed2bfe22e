package varnish

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `varnish:` block of a sink.
type Config struct {
	// Nodes are the Varnish servers, each as http://host:port or https://host,
	// or as dns+http://host:port for all addresses that the name has at the
	// moment of a purge. Every one is purged.
	Nodes []string `yaml:"nodes"`
	// TLS is for servers whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Header is the request header that carries tags to the VCL.
	Header string `yaml:"header"`
	// Soft asks the VCL to expire objects rather than to drop them, so that they
	// can be served while they are fetched again.
	Soft bool `yaml:"soft"`
	// Bans allows purges by URL prefix and of everything, which Varnish does by
	// bans.
	Bans bool `yaml:"bans"`
	// Confirm is the response header without which a 200 does not count. Under DefaultConfirm the
	// answer to a purge by tag must have a count in it.
	Confirm string `yaml:"confirm"`
	// Headers are request headers that vcl_hash reads. Every combination of a URL is purged.
	Headers urlvariant.Headers `yaml:"headers"`
	// Uses are the kinds that Check and Probe make sure of; 0 means all of Kinds. It follows from the
	// rules, not from the file.
	Uses invalidation.KindSet `yaml:"-"`
	// Hits, where it is not nil, is told how many of the tags that a rule had purged existed, at most, and
	// how many did not. It is called while Purge runs.
	Hits func(rule string, existed, absent int) `yaml:"-"`
	// Pages, where it is not nil, is told of each purge by URL whether there may have been such a page.
	Pages func(url string, existed bool) `yaml:"-"`
}

// DefaultConfirm is what the documented VCL puts into its answers: how many objects the tags had,
// or the kind of purge that it carried out.
const DefaultConfirm = "Walpurge-Purged"

// DefaultConfig returns the values of keys that the file leaves out. It is not
// valid as it stands: nodes has no default.
func DefaultConfig() Config { return Config{Header: "xkey", Confirm: DefaultConfirm} }

// HeaderUse takes the headers of rules, except those that carry what is to be purged.
func (c Config) HeaderUse() urlvariant.HeaderUse {
	return urlvariant.HeaderUse{Taken: true, Reserved: []string{c.Header, softHeader, banHeader}}
}

var headerForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

// reserved are headers that mean something else in these requests.
var reserved = regexp.MustCompile(`(?i)^(host|connection|content-length|transfer-encoding|soft-purge|ban|te|trailer|upgrade|user-agent|accept-encoding)$`)

// Validate reports every key that cannot be used, without touching the network.
// It repeats no value, since a password may have been put into a URL.
func (c Config) Validate() error {
	var errs []error
	if len(c.Nodes) == 0 {
		errs = append(errs, errors.New(`nodes: name the Varnish servers, such as ["http://10.0.0.5:6081"] or ["dns+http://varnish:6081"]`))
	}
	seen := map[node]bool{}
	for i, text := range c.Nodes {
		n, err := parseNode(text)
		if err == nil && seen[n] {
			err = errors.New("the same node twice; remove one")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("nodes: number %d: %w", i+1, err))
		}
		seen[n] = true
	}
	if !headerForm.MatchString(c.Header) || reserved.MatchString(c.Header) {
		errs = append(errs, errors.New("header: write the name of the header that the VCL hands to xkey, such as xkey"))
	}
	if !headerForm.MatchString(c.Confirm) {
		errs = append(errs, errors.New("confirm: write the name of a header that the VCL puts into its answers to purges, such as Walpurge-Purged"))
	}
	if err := c.Headers.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("headers: %w", err))
	}
	for name := range c.Headers {
		if c.reserved(name) {
			errs = append(errs, fmt.Errorf("headers: %s means something else in purges; it cannot be set", name))
		}
	}
	return errors.Join(errs...)
}

// reserved reports a header that carries what is to be purged.
func (c Config) reserved(name string) bool {
	return slices.ContainsFunc(c.HeaderUse().Reserved, func(own string) bool { return strings.EqualFold(own, name) })
}

// Where names the nodes.
func (c Config) Where() string { return strings.Join(c.Nodes, ", ") }

// Target is the nodes. As long as one of them stays, they are the same caches.
func (c Config) Target() history.Target {
	t := history.Target{Kind: "varnish", Parts: make(map[string]string)}
	for _, node := range c.Nodes {
		t.Parts[node] = node
	}
	return t
}

// Kinds returns what the sink carries out.
func (c Config) Kinds() invalidation.KindSet {
	k := invalidation.Kinds(invalidation.Tag, invalidation.URL)
	if c.Bans {
		k |= invalidation.Kinds(invalidation.URLPrefix, invalidation.Everything)
	}
	return k
}

// uses reports whether the rules, as far as they are known, need a kind.
func (c Config) uses(k invalidation.Kind) bool {
	return c.Kinds().Has(k) && (c.Uses == 0 || c.Uses.Has(k))
}

// Caps returns how long values may be, so that a request stays well below what Varnish takes by
// default: 8 KiB for one header or the request line (http_req_hdr_len). A URL prefix goes into a ban
// as a regular expression, which may be twice as long.
func (c Config) Caps() invalidation.Caps {
	return invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: maxHeader, invalidation.URL: maxURL, invalidation.URLPrefix: maxPrefix}}
}

// maxItems is what one call may carry: at worst a request each, one after the
// other, in a few seconds on a slow network.
const maxItems = 100

// Limits returns what one call may carry. Calls are not paced: the nodes'
// answers are the pace.
func (c Config) Limits() sinks.Limits {
	l := sinks.Limits{Items: maxItems}
	if n := len(c.Headers.Variants()); n > 1 {
		l.OneKind, l.ByKind[invalidation.URL] = true, max(1, maxItems/n)
	}
	return l
}
