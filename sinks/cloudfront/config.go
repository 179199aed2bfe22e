package cloudfront

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `cloudfront:` block of a sink.
type Config struct {
	// DistributionID is the distribution's id, not its domain name.
	DistributionID string `yaml:"distribution_id"`
	// Region is what requests are signed for; CloudFront itself has none.
	Region string `yaml:"region"`
	// Tags allows purges by cache tag, which only a distribution with a
	// CacheTagConfig carries out.
	Tags bool `yaml:"tags"`
	// Hosts are the distribution's own host names. If there are any, URLs and
	// prefixes of other hosts are refused.
	Hosts []string `yaml:"hosts"`
	// BaseURL replaces CloudFront's endpoint, for tests and proxies.
	BaseURL string `yaml:"base_url"`
	// AllowHTTP lets BaseURL be http:// to another machine, which then gets signed requests in clear text.
	AllowHTTP bool `yaml:"allow_http"`
	// TLS is for an address of one's own whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Headers are refused: an invalidation of a path removes every variant of it.
	Headers urlvariant.Headers `yaml:"headers"`

	// anyHost is set in an offline check that does not know all hosts.
	anyHost bool
}

// DefaultConfig returns the values of keys that the file leaves out. It is not
// valid as it stands: distribution_id has no default.
func DefaultConfig() Config { return Config{Region: "us-east-1"} }

var (
	distributionForm = regexp.MustCompile(`^[A-Z0-9]{8,32}$`)
	regionForm       = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`)
)

// Validate reports every key that cannot be used, without touching the network
// or the credentials. It repeats no value, since a key may have been put into the
// wrong place.
func (c Config) Validate() error {
	var errs []error
	if !distributionForm.MatchString(c.DistributionID) {
		errs = append(errs, errors.New("distribution_id: write the distribution's id, capital letters and digits such as E2EXAMPLE1234, not its domain name"))
	}
	if !regionForm.MatchString(c.Region) {
		errs = append(errs, errors.New("region: write a region such as us-east-1, or leave it out"))
	}
	for i, h := range c.Hosts {
		if !httpsink.IsHost(h) {
			errs = append(errs, fmt.Errorf("hosts: number %d: write a host name alone, such as shop.example", i+1))
		}
	}
	if len(c.Headers) > 0 {
		errs = append(errs, errors.New("headers: not needed here, an invalidation of a path removes what is cached of it for every header and cookie; remove the key"))
	}
	if err := c.checkBaseURL(); err != nil {
		errs = append(errs, fmt.Errorf("base_url: %w", err))
	}
	return errors.Join(errs...)
}

func (c Config) checkBaseURL() error {
	if c.BaseURL == "" {
		return nil
	}
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || !httpsink.IsHost(u.Host):
		return errors.New("write an absolute URL such as https://cloudfront.amazonaws.com")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("no user, password, path, query or fragment belongs here")
	}
	return httpsink.CheckPlain(u, c.AllowHTTP)
}

// Where names the distribution.
func (c Config) Where() string { return "distribution " + c.DistributionID }

// Target is the distribution.
func (c Config) Target() history.Target {
	return history.Target{Kind: "cloudfront", Parts: map[string]string{"": c.DistributionID}}
}

// Kinds returns what the sink carries out.
func (c Config) Kinds() invalidation.KindSet {
	k := invalidation.Kinds(invalidation.URL, invalidation.URLPrefix, invalidation.Everything)
	if c.Tags {
		k |= invalidation.Kinds(invalidation.Tag)
	}
	return k
}

// Caps returns how long values may be. Hosts are not part of paths, and the path of a prefix ends in
// a *.
func (c Config) Caps() invalidation.Caps {
	return invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: maxTag, invalidation.URL: maxPath, invalidation.URLPrefix: maxPath - 1}, PathOnly: true}
}

// What a distribution may have in progress at a time: 3,000 paths without a
// wildcard, and 15 with one (InvalidationLimits in the developer guide). One call
// takes a third of the former, and as many requests as it needs for the latter.
const (
	maxItems     = 1000
	maxWildcards = 15
)

// Limits returns what one call may carry. Calls are not paced: CloudFront limits
// what is in progress, and says so.
func (c Config) Limits() sinks.Limits { return sinks.Limits{Items: maxItems} }
