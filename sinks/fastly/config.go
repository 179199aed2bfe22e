package fastly

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `fastly:` block of a sink.
type Config struct {
	// ServiceID is the letters and digits that the service's page shows.
	ServiceID string `yaml:"service_id"`
	// APITokenFile holds a token with the scope purge_select, and purge_all for
	// purges of everything. It is read again for every request.
	APITokenFile string `yaml:"api_token_file"`
	// Soft marks keys and URLs as stale instead of removing them.
	Soft bool `yaml:"soft"`
	// BaseURL replaces https://api.fastly.com, for tests and proxies.
	BaseURL string `yaml:"base_url"`
	// AllowHTTP lets BaseURL be http:// to another machine, which then gets the token in clear text.
	AllowHTTP bool `yaml:"allow_http"`
	// TLS is for an address of one's own whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Budget is what the account may spend; 0 takes the preset.
	Budget Budget `yaml:"limits"`
	// Headers are refused: Fastly's API takes none with a URL.
	Headers urlvariant.Headers `yaml:"headers"`

	// FlushesAll says that the sink's flush is of everything; Check then asks
	// whether the token may do that.
	FlushesAll bool `yaml:"-"`
}

// Budget is the `limits:` block.
type Budget struct {
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	Burst             int     `yaml:"burst"`
	// ItemsPerRequest is how many keys one request may carry, at most 256
	// (Fastly's limit).
	ItemsPerRequest int `yaml:"items_per_request"`
	// Account names the budget; sinks that name the same one share it. Empty: all
	// sinks with the same token file do.
	Account string `yaml:"account"`
}

const (
	// maxKeys is what one request may carry
	// (fastly.com/documentation/reference/api/purging).
	maxKeys = 256
	// urlsPerCall are purged by as many requests, some at once.
	urlsPerCall = 16
	atOnce      = 4
	// The preset stays below 100,000 purges an hour, 27.7 a second.
	perSecond = 25
	burst     = 100
)

// DefaultConfig returns the values of keys that the file leaves out. Purges are
// hard: a soft one lets the next visitor have the old page. It is not valid as it
// stands: service_id and api_token_file have no default.
func DefaultConfig() Config { return Config{} }

// noHeaders is why what a service adds to its hash beside host and path cannot be named. Variants by Vary
// are removed together (fastly.com/documentation/reference/api/purging).
const noHeaders = "purges by URL what Fastly finds by host and path alone, since its API takes no headers; " +
	"purge pages that have more in their hash by tag, their surrogate key"

// HeaderUse refuses rules with headers.
func (c Config) HeaderUse() urlvariant.HeaderUse { return urlvariant.HeaderUse{Refused: noHeaders} }

var serviceShape = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// Validate reports every key that cannot be used, without touching the network
// or the token file. It repeats no value, since a token may have been put into
// the wrong key.
func (c Config) Validate() error {
	var errs []error
	if !serviceShape.MatchString(c.ServiceID) {
		errs = append(errs, errors.New("service_id: write the service's id, letters and digits, as its page shows it"))
	}
	if c.APITokenFile == "" {
		errs = append(errs, errors.New("api_token_file: name a file that holds a token with the scopes purge_select and purge_all"))
	}
	if _, err := httpsink.BaseURL(c.BaseURL, defaultBaseURL, c.AllowHTTP); err != nil {
		errs = append(errs, fmt.Errorf("base_url: %w", err))
	}
	if len(c.Headers) > 0 {
		errs = append(errs, errors.New("headers: this sink "+noHeaders))
	}
	if c.Budget.RequestsPerSecond < 0 {
		errs = append(errs, errors.New("limits.requests_per_second: write a number above 0, or leave it out for the preset"))
	}
	if c.Budget.Burst < 0 {
		errs = append(errs, errors.New("limits.burst: write a number from 1, or leave it out for the preset"))
	}
	if c.Budget.ItemsPerRequest < 0 || c.Budget.ItemsPerRequest > maxKeys {
		errs = append(errs, fmt.Errorf("limits.items_per_request: write a number from 1 to %d", maxKeys))
	}
	return errors.Join(errs...)
}

const defaultBaseURL = "https://api.fastly.com"

// Where names the service.
func (c Config) Where() string { return "service " + c.ServiceID }

// Target is the service.
func (c Config) Target() history.Target {
	return history.Target{Kind: "fastly", Parts: map[string]string{"": c.ServiceID}}
}

// Kinds returns what the sink carries out.
func (c Config) Kinds() invalidation.KindSet {
	return invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.Everything)
}

// Caps returns how long surrogate keys and URLs may be.
func (c Config) Caps() invalidation.Caps {
	return invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: maxKey, invalidation.URL: maxURL}}
}

// Limits returns what one call may carry: one request's worth of keys, or as many
// URLs as are worth waiting for together, since the API takes one in a request.
// How often is for Budgets to say.
func (c Config) Limits() sinks.Limits {
	l := sinks.Limits{Items: maxKeys, OneKind: true}
	l.ByKind[invalidation.URL] = urlsPerCall
	if c.Budget.ItemsPerRequest > 0 {
		l.Items = c.Budget.ItemsPerRequest
	}
	return l
}

// Budgets returns what the account may spend: a token for each request.
func (c Config) Budgets() []sinks.Budget {
	b := sinks.Budget{Share: "fastly token " + filepath.Clean(c.APITokenFile), PerSecond: perSecond, Burst: burst}
	if c.Budget.Account != "" {
		b.Share = "fastly account " + c.Budget.Account
	}
	if c.Budget.RequestsPerSecond > 0 {
		b.PerSecond = c.Budget.RequestsPerSecond
	}
	if c.Budget.Burst > 0 {
		b.Burst = c.Budget.Burst
	}
	b.Cost = func(batch []invalidation.Invalidation) int {
		if batch[0].Kind == invalidation.URL {
			return len(batch)
		}
		return 1
	}
	return []sinks.Budget{b}
}

// Accepts says why the sink can never carry out an invalidation, nil if it may.
func (c Config) Accepts(inv invalidation.Invalidation) error {
	switch inv.Kind {
	case invalidation.Tag:
		return checkKey(inv.Value)
	case invalidation.URL:
		_, err := purgePath(inv.Value)
		return err
	case invalidation.Everything:
		return nil
	}
	return fmt.Errorf("cannot purge by %s; send tags, urls or everything", inv.Kind)
}
