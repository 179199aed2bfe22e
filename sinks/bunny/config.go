package bunny

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// Config is the `bunny:` block of a sink.
type Config struct {
	// PullZoneID is the number of the pull zone.
	PullZoneID string `yaml:"pull_zone_id"`
	// APITokenFile holds the account's API key. It is read again for every request.
	APITokenFile string `yaml:"api_token_file"`
	// TagPattern is what the API is sent for a tag, with {tag} in its place.
	TagPattern string `yaml:"tag_pattern"`
	// ExactPaths takes URLs whose path ends with a slash, and asks for that path alone.
	ExactPaths bool `yaml:"exact_paths"`
	// BaseURL replaces https://api.bunny.net, for tests and proxies.
	BaseURL string `yaml:"base_url"`
	// AllowHTTP lets BaseURL be http:// to another machine, which then gets the key in clear text.
	AllowHTTP bool `yaml:"allow_http"`
	// TLS is for an address of one's own whose certificate the system does not trust.
	TLS httpsink.TLS `yaml:"tls"`
	// Budget is what the account may spend; 0 takes the preset.
	Budget Budget `yaml:"limits"`

	// uses are the kinds that a check is for; 0: all.
	uses invalidation.KindSet
}

// Budget is the `limits:` block.
type Budget struct {
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	Burst             int     `yaml:"burst"`
	// Account names the budget; sinks that name the same one share it. Empty: all sinks with the same
	// key file do.
	Account string `yaml:"account"`
}

const (
	// maxTag is the documented limit of the header CDN-Tag.
	maxTag = 1024
	maxURL = 8 << 10 // guessed
	// The documented limit for exact URLs, an account's.
	perSecond = 5
	burst     = 120
	// perCall values are purged by as many requests, some at once.
	perCall = 16
	atOnce  = 4

	defaultBaseURL = "https://api.bunny.net"
	tagPlace       = "{tag}"
)

// DefaultConfig returns the values of keys that the file leaves out. It is not valid as it stands:
// pull_zone_id and api_token_file have no default.
func DefaultConfig() Config { return Config{TagPattern: tagPlace} }

var (
	_        sinks.Config = (*Config)(nil)
	zoneForm              = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
)

// Kind is the key of the block.
func (c *Config) Kind() string { return "bunny" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Validate reports every key that cannot be used. It repeats no value, since the API key may have
// been put into the wrong one.
func (c *Config) Validate() error {
	var errs []error
	if !zoneForm.MatchString(c.PullZoneID) {
		errs = append(errs, errors.New("pull_zone_id: write the number of the pull zone, as the address of its page shows it"))
	}
	if c.APITokenFile == "" {
		errs = append(errs, errors.New("api_token_file: name a file that holds the account's API key"))
	}
	switch around := strings.ReplaceAll(c.TagPattern, tagPlace, ""); {
	case strings.Count(c.TagPattern, tagPlace) != 1:
		errs = append(errs, errors.New("tag_pattern: write {tag} once, like {tag} or *,{tag},*"))
	case strings.ContainsFunc(around, func(r rune) bool { return r < ' ' || r > '~' }):
		errs = append(errs, errors.New("tag_pattern: write printable ASCII characters around {tag}"))
	}
	if _, err := httpsink.BaseURL(c.BaseURL, defaultBaseURL, c.AllowHTTP); err != nil {
		errs = append(errs, fmt.Errorf("base_url: %w", err))
	}
	if c.Budget.RequestsPerSecond < 0 {
		errs = append(errs, errors.New("limits.requests_per_second: write a number above 0, or leave it out for the preset"))
	}
	if c.Budget.Burst < 0 {
		errs = append(errs, errors.New("limits.burst: write a number from 1, or leave it out for the preset"))
	}
	return errors.Join(errs...)
}

// Known replaces what an offline check does not know.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known := *c
	if unset(known.PullZoneID) {
		known.PullZoneID = "1"
	}
	if unset(known.TagPattern) {
		known.TagPattern = tagPlace
	}
	if unset(known.BaseURL) {
		known.BaseURL = ""
	}
	return &known
}

// Using returns a copy whose check is for these kinds.
func (c *Config) Using(kinds invalidation.KindSet) sinks.Config {
	one := *c
	one.uses = kinds
	return &one
}

// Kinds returns what the sink carries out.
func (c *Config) Kinds() invalidation.KindSet {
	return invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.Everything)
}

// Caps returns how long tags and URLs may be.
func (c *Config) Caps() invalidation.Caps {
	return invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: maxTag, invalidation.URL: maxURL}}
}

// Traits returns what else there is to know.
func (c *Config) Traits() sinks.Traits {
	return sinks.Traits{
		Headers: urlvariant.HeaderUse{Refused: "purges by URL what Bunny finds by host and path alone, since its API takes no headers; " +
			"purge pages that have more in their key by tag"},
		SecretFiles: []sinks.SecretFile{{Key: "api_token_file", Path: c.APITokenFile}},
	}
}

// Limits returns what one call may carry: as many values as are worth waiting for together, since the
// API takes one in a request.
func (c *Config) Limits() sinks.Limits { return sinks.Limits{Items: perCall, OneKind: true} }

// Budgets returns what the account may spend: a token for each request.
func (c *Config) Budgets() []sinks.Budget {
	b := sinks.Budget{
		Share: "bunny key " + filepath.Clean(c.APITokenFile), PerSecond: perSecond, Burst: burst,
		Cost: func(batch []invalidation.Invalidation) int { return len(batch) },
	}
	if c.Budget.Account != "" {
		b.Share = "bunny account " + c.Budget.Account
	}
	if c.Budget.RequestsPerSecond > 0 {
		b.PerSecond = c.Budget.RequestsPerSecond
	}
	if c.Budget.Burst > 0 {
		b.Burst = c.Budget.Burst
	}
	return []sinks.Budget{b}
}

// Where names the pull zone.
func (c *Config) Where() string { return "pull zone " + c.PullZoneID }

// Target is the pull zone.
func (c *Config) Target() history.Target {
	return history.Target{Kind: "bunny", Parts: map[string]string{"": c.PullZoneID}}
}

// Accepts says why the sink can never carry out an invalidation, nil if it may.
func (c *Config) Accepts(inv invalidation.Invalidation) error {
	switch inv.Kind {
	case invalidation.Tag:
		return checkTag(inv.Value)
	case invalidation.URL:
		return c.checkURL(inv.Value)
	case invalidation.Everything:
		return nil
	}
	return fmt.Errorf("cannot purge by %s; send tags, urls or everything", inv.Kind)
}

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	s, err := New(*c, o.Log)
	if err != nil {
		return nil, err
	}
	return &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close}, nil
}

// checkTag tells whether a tag names itself alone, and whether a CDN-Tag header can have carried it.
func checkTag(tag string) error {
	switch {
	case tag == "":
		return errors.New("an empty tag, which would purge the whole pull zone")
	case len(tag) > maxTag:
		return fmt.Errorf("a tag of %d bytes, at most %d fit; hash long tags in the rule and in the CDN-Tag header alike", len(tag), maxTag)
	case strings.Contains(tag, "*"):
		return errors.New("a tag with a *, which is a wildcard and would purge other tags too; encode it in the rule and in the CDN-Tag header alike")
	}
	for i := range len(tag) {
		if c := tag[i]; c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("a tag with a comma, a space, a control or a non-ASCII character (byte %d), which no CDN-Tag header can carry; percent-encode it here and in the header alike", i)
		}
	}
	return nil
}

// checkURL tells whether a URL names one page alone. A path is also looked at without its escapes,
// since what the API makes of them is not documented.
func (c *Config) checkURL(text string) error {
	if len(text) > maxURL {
		return fmt.Errorf("a URL of %d bytes, at most %d are sent", len(text), maxURL)
	}
	u, err := httpsink.ParseURL(text)
	switch {
	case err != nil:
		return err
	case httpsink.HasDotSegments(u.EscapedPath()):
		return errors.New("a URL with a segment of dots, which would lead elsewhere")
	case strings.Contains(strings.ReplaceAll(strings.ToLower(text), "%2a", "*"), "*"):
		return errors.New("a URL with a *, which is a wildcard and would purge other pages too; purge a tag")
	case strings.HasSuffix(u.Path, "/") && !c.ExactPaths:
		return errors.New("a URL whose path ends with a slash, for which Bunny purges all that begins with it; purge a tag, or set exact_paths for a pull zone that does not ignore query strings")
	}
	return nil
}
