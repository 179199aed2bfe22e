package cloudflare

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `cloudflare:` block of a sink.
type Config struct {
	// ZoneID is the 32 hex digits that the zone's overview page shows.
	ZoneID string `yaml:"zone_id"`
	// Zones are ids by host, instead of ZoneID: a host is in the zone of the
	// longest name here that it is, or ends in after a dot.
	Zones map[string]string `yaml:"zones"`
	// APITokenFile holds a token with the zones' Cache Purge permission. It is
	// read again for every request.
	APITokenFile string `yaml:"api_token_file"`
	// Plan is the zone's plan: free, pro, business or enterprise. It presets
	// the limits that are not set.
	Plan string `yaml:"plan"`
	// BaseURL replaces https://api.cloudflare.com/client/v4, for tests and
	// proxies. Without a path, /client/v4 is added.
	BaseURL string `yaml:"base_url"`
	// AllowHTTP lets BaseURL be http:// to another machine, which then gets the token in clear text.
	AllowHTTP bool `yaml:"allow_http"`
	// TLS is for an address of one's own whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Budget is what the account may spend; 0 takes the plan's preset.
	Budget Budget `yaml:"limits"`
	// Headers are request headers that a custom cache key has, such as CF-Device-Type. Every combination
	// of a URL is purged.
	Headers urlvariant.Headers `yaml:"headers"`
}

// DefaultConfig returns the values of keys that the file leaves out. The plan is
// the smallest paid one, whose pace is close to that of the API-wide limit: an
// account with more loses little, and a free one is told to wait and does. The
// free plan's own pace would let a paying account go stale for want of one line.
// It is not valid as it stands: the zone and api_token_file have no default.
func DefaultConfig() Config {
	return Config{Plan: "pro"}
}

var (
	zoneShape = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
	hostShape = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// Validate reports every key that cannot be used, without touching the network
// or the token file. It repeats no value, since a token may have been put into
// the wrong key.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.ZoneID != "" && len(c.Zones) > 0:
		errs = append(errs, errors.New("zone_id and zones: write one of them"))
	case len(c.Zones) == 0 && !zoneShape.MatchString(c.ZoneID):
		errs = append(errs, errors.New("zone_id: write the zone's id, 32 hex digits, as its overview page shows it"))
	}
	for _, host := range slices.Sorted(maps.Keys(c.Zones)) {
		if !hostShape.MatchString(host) {
			errs = append(errs, fmt.Errorf("zones: %q is no host; write it in lower case, without scheme, port and wildcard, like shop.example", host))
			continue
		}
		if !zoneShape.MatchString(c.Zones[host]) {
			errs = append(errs, fmt.Errorf("zones: %s: write the zone's id, 32 hex digits, as its overview page shows it", host))
		}
	}
	if c.APITokenFile == "" {
		errs = append(errs, errors.New("api_token_file: name a file that holds a token with the zone's Cache Purge permission"))
	}
	if _, ok := presets[c.Plan]; !ok {
		errs = append(errs, errors.New("plan: write free, pro, business or enterprise"))
	}
	if err := c.Headers.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("headers: %w", err))
	} else if n, most := len(c.Headers.Variants()), c.urlsPerRequest(); n > most {
		errs = append(errs, fmt.Errorf("headers: the lists make %d combinations, and a request carries at most %d URLs; purge such pages by tag", n, most))
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
	if n := c.Budget.APIRequests; n < 0 || n > 0 && n < 20 {
		errs = append(errs, errors.New("limits.api_requests: write a number from 20, or leave it out for Cloudflare's 1,200 in five minutes"))
	}
	return errors.Join(errs...)
}

const defaultBaseURL = "https://api.cloudflare.com/client/v4"

// baseURL returns the URL without a slash at its end.
func (c Config) baseURL() (string, error) {
	u, err := httpsink.BaseURL(c.BaseURL, defaultBaseURL, c.AllowHTTP)
	if err != nil {
		return "", err
	}
	if u.Path == "" {
		u.Path = "/client/v4"
	}
	return u.String(), nil
}

// Where names the zones.
func (c Config) Where() string {
	if len(c.Zones) == 0 {
		return "zone " + c.ZoneID
	}
	var zones []string
	for _, host := range slices.Sorted(maps.Keys(c.Zones)) {
		zones = append(zones, fmt.Sprintf("zone %s of %s", c.Zones[host], host))
	}
	return strings.Join(zones, ", ")
}

// Target is the zones by host. The address of the API says nothing of them.
func (c Config) Target() history.Target {
	if len(c.Zones) == 0 {
		return history.Target{Kind: "cloudflare", Parts: map[string]string{"": c.ZoneID}}
	}
	return history.Target{Kind: "cloudflare", Parts: maps.Clone(c.Zones)}
}

// Kinds returns what the sink carries out.
func (c Config) Kinds() invalidation.KindSet {
	return invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything)
}

// Caps returns how long values may be: tags as Cloudflare stores them, and URLs and prefixes up to
// our own bound.
func (c Config) Caps() invalidation.Caps {
	return invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: maxTag, invalidation.URL: maxURL, invalidation.URLPrefix: maxURL}}
}

// HeaderUse takes the headers of rules.
func (c Config) HeaderUse() urlvariant.HeaderUse { return urlvariant.HeaderUse{Taken: true} }

// Accepts says why the sink can never carry out an invalidation, nil if it may:
// the form of its value, and whether there is a zone for its host.
func (c Config) Accepts(inv invalidation.Invalidation) error {
	_, err := newZones(c).place(inv)
	return err
}

// HasZone reports whether the URLs of a host, in lower case, have a zone here.
func (c Config) HasZone(host string) bool {
	_, ok := newZones(c).of(host)
	return ok
}
