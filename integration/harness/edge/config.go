package edge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config describes an edge. OriginURL or Origin, and one account or distribution, are needed.
type Config struct {
	// OriginURL is where misses go, such as http://127.0.0.1:8080; or Origin
	// answers them in this process. Exactly one is set.
	OriginURL string
	Origin    http.Handler
	// PublicURL is scheme and host of the site, such as https://shop.example. A
	// request that came to an IP address or to localhost is taken as one for it,
	// others keep their Host and take its scheme. Empty: http and the Host.
	PublicURL string
	// Accounts own zones and tokens.
	Accounts []Account
	// Distributions are purged through CloudFront's API.
	Distributions []Distribution
	// PurgeDelay is the time from the reply to a purge until it takes effect;
	// nil: 150 ms. With 0 it takes effect before the reply.
	PurgeDelay *time.Duration
	// DropLateFetches keeps a response out of the cache when any purge took
	// effect since its fetch began. The real edge stores it, stale as it may be.
	DropLateFetches bool
	// ObeyCacheControl keeps a response no longer than its Cache-Control says (s-maxage, max-age,
	// stale-while-revalidate), apart for each variant that its Vary tells apart, and sends one of
	// several concurrent requests for it to the origin. Without it a response stays until it is
	// purged, so that a missed purge shows.
	ObeyCacheControl bool
	// Clock is the time that limits and the log go by; nil: time.Now. PurgeDelay
	// goes by real time.
	Clock func() time.Time
	// LogSize is how many requests the log keeps, the newest; 0: 10,000.
	LogSize int
	// MaxObjects bounds the cache; 0: 100,000. Past it any object may go.
	MaxObjects int
}

// Account is what limits are shared by.
type Account struct {
	Plan Plan
	// Limits replace the plan's, if not zero.
	Limits Limits
	// Tokens may purge every zone of the account. Expired ones are known and refused.
	Tokens  []string
	Expired []string
	Zones   []Zone
}

// Zone is a part of the cache.
type Zone struct {
	// ID is 32 hexadecimal digits in lower case.
	ID string
	// Hosts are the host names whose responses belong to the zone, with the names
	// below them; none: all.
	Hosts []string
}

// holds reports whether a host, in lower case and perhaps with a port, is the
// zone's.
func (z Zone) holds(host string) bool {
	name, _, _ := strings.Cut(host, ":")
	return len(z.Hosts) == 0 || slices.ContainsFunc(z.Hosts, func(h string) bool { return name == h || strings.HasSuffix(name, "."+h) })
}

const (
	defaultPurgeDelay = 150 * time.Millisecond
	defaultLogSize    = 10_000
	defaultMaxObjects = 100_000
)

var zoneID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// withDefaults checks a configuration and fills in what it leaves open.
func (c Config) withDefaults() (Config, error) {
	if (c.OriginURL == "") == (c.Origin == nil) {
		return c, errors.New("edge: set OriginURL or Origin, and not both")
	}
	for name, raw := range map[string]string{"OriginURL": c.OriginURL, "PublicURL": c.PublicURL} {
		if u, err := url.Parse(raw); raw != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return c, fmt.Errorf("edge: %s is not an absolute http or https URL", name)
		}
	}
	if len(c.Accounts) == 0 && len(c.Distributions) == 0 {
		return c, errors.New("edge: no account and no distribution")
	}
	c.Accounts = slices.Clone(c.Accounts)
	for i := range c.Accounts {
		a := &c.Accounts[i]
		if a.Limits == (Limits{}) {
			limits, ok := LimitsOf(a.Plan)
			if !ok {
				return c, fmt.Errorf("edge: account %d: no plan %q", i, a.Plan)
			}
			a.Limits = limits
		}
		a.Zones = slices.Clone(a.Zones)
		for j, zone := range a.Zones {
			if !zoneID.MatchString(zone.ID) {
				return c, fmt.Errorf("edge: account %d: zone id %q is not 32 hexadecimal digits", i, zone.ID)
			}
			a.Zones[j].Hosts = nil
			for _, host := range zone.Hosts {
				a.Zones[j].Hosts = append(a.Zones[j].Hosts, strings.ToLower(host))
			}
		}
	}
	if c.PurgeDelay == nil {
		c.PurgeDelay = new(defaultPurgeDelay)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.LogSize == 0 {
		c.LogSize = defaultLogSize
	}
	if c.MaxObjects == 0 {
		c.MaxObjects = defaultMaxObjects
	}
	return c, nil
}
