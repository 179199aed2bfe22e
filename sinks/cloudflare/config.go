package cloudflare

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
)

// Config is the `cloudflare:` block of a sink.
type Config struct {
	// ZoneID is the 32 hex digits that the zone's overview page shows.
	ZoneID string `yaml:"zone_id"`
	// APITokenFile holds a token with the zone's Cache Purge permission. It is
	// read again for every request.
	APITokenFile string `yaml:"api_token_file"`
	// Plan is the zone's plan: free, pro, business or enterprise. It presets
	// the limits that are not set.
	Plan string `yaml:"plan"`
	// BaseURL replaces https://api.cloudflare.com/client/v4, for tests and
	// proxies. Without a path, /client/v4 is added.
	BaseURL string `yaml:"base_url"`
	// Budget is what the account may spend; 0 takes the plan's preset.
	Budget Budget `yaml:"limits"`
}

// Budget is the `limits:` block.
type Budget struct {
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	Burst             int     `yaml:"burst"`
	// ItemsPerRequest is at most 100 (Cloudflare's limit on every plan).
	ItemsPerRequest int `yaml:"items_per_request"`
	// Account names the budget; sinks that name the same one share it.
	Account string `yaml:"account"`
}

const maxItems = 100

// presets are the plans' purge limits for tags and everything, per account
// (developers.cloudflare.com/cache/how-to/purge-cache, as of April 2025: 5 a
// minute, 5/s, 10/s, 50/s; buckets of 25, 25, 50, 500), cut down so that the
// API-wide limit of 1,200 requests in five minutes is never met: crossing it
// blocks the token from the whole API for five minutes. That limit leaves
// (1200 - burst) / 300s, just under 4/s, and no room for Enterprise's bucket.
// Whoever has had it raised sets the limits by hand.
var presets = map[string]sinks.Limits{
	"free":       {PerSecond: 5.0 / 60, Burst: 25},
	"pro":        {PerSecond: 3.9, Burst: 25},
	"business":   {PerSecond: 3.8, Burst: 50},
	"enterprise": {PerSecond: 3.8, Burst: 50},
}

// DefaultConfig returns the values of keys that the file leaves out. The plan is
// the smallest paid one, whose pace is that of the API-wide limit: an account
// with more loses little, and a free one is told to wait and does. The free
// plan's own pace would let a paying account go stale for want of one line. It
// is not valid as it stands: zone_id and api_token_file have no default.
func DefaultConfig() Config {
	return Config{Plan: "pro", Budget: Budget{ItemsPerRequest: maxItems}}
}

var zoneShape = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

// Validate reports every key that cannot be used, without touching the network
// or the token file. It repeats no value, since a token may have been put into
// the wrong key.
func (c Config) Validate() error {
	var errs []error
	if !zoneShape.MatchString(c.ZoneID) {
		errs = append(errs, errors.New("zone_id: write the zone's id, 32 hex digits, as its overview page shows it"))
	}
	if c.APITokenFile == "" {
		errs = append(errs, errors.New("api_token_file: name a file that holds a token with the zone's Cache Purge permission"))
	}
	if _, ok := presets[c.Plan]; !ok {
		errs = append(errs, errors.New("plan: write free, pro, business or enterprise"))
	}
	if _, err := c.baseURL(); err != nil {
		errs = append(errs, fmt.Errorf("base_url: %w", err))
	}
	if c.Budget.RequestsPerSecond < 0 {
		errs = append(errs, errors.New("limits.requests_per_second: write a number above 0, or leave it out for the plan's"))
	}
	if c.Budget.Burst < 0 {
		errs = append(errs, errors.New("limits.burst: write a number from 1, or leave it out for the plan's"))
	}
	if c.Budget.ItemsPerRequest < 0 || c.Budget.ItemsPerRequest > maxItems {
		errs = append(errs, fmt.Errorf("limits.items_per_request: write a number from 1 to %d", maxItems))
	}
	return errors.Join(errs...)
}

const defaultBaseURL = "https://api.cloudflare.com/client/v4"

// baseURL returns the URL without a slash at its end.
func (c Config) baseURL() (string, error) {
	if c.BaseURL == "" {
		return defaultBaseURL, nil
	}
	u, err := url.Parse(c.BaseURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", errors.New("write an absolute URL such as " + defaultBaseURL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("no user, password, query or fragment belongs here; the token goes into api_token_file")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if u.Path == "" {
		u.Path = "/client/v4"
	}
	return u.String(), nil
}

// Kinds returns what the sink carries out.
func (c Config) Kinds() rules.KindSet {
	return rules.Kinds(rules.Tag, rules.Everything)
}

// Limits returns what one call may carry, one request a call, and how many
// calls the account may make.
func (c Config) Limits() sinks.Limits {
	l := presets[c.Plan]
	l.Items, l.OneKind = maxItems, true
	if c.Budget.ItemsPerRequest > 0 {
		l.Items = c.Budget.ItemsPerRequest
	}
	if c.Budget.RequestsPerSecond > 0 {
		l.PerSecond = c.Budget.RequestsPerSecond
	}
	if c.Budget.Burst > 0 {
		l.Burst = c.Budget.Burst
	}
	return l
}
