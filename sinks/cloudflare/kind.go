package cloudflare

import (
	"fmt"
	"maps"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var _ sinks.Config = (*Config)(nil)

// Kind is the key of the block.
func (c *Config) Kind() string { return "cloudflare" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Known replaces what an offline check does not know.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known, anyZone := *c, strings.Repeat("0", 32)
	if unset(known.ZoneID) {
		known.ZoneID = anyZone
	}
	known.Zones = maps.Clone(known.Zones)
	for host, id := range known.Zones {
		if unset(id) {
			known.Zones[host] = anyZone
		}
	}
	if unset(known.BaseURL) {
		known.BaseURL = ""
	}
	return &known
}

// Using returns the same: Check asks for all that the sink needs.
func (c *Config) Using(invalidation.KindSet) sinks.Config { return c }

// Traits returns what else there is to know.
func (c *Config) Traits() sinks.Traits {
	return sinks.Traits{Headers: c.HeaderUse(), Host: c.checkHost, SecretFiles: []sinks.SecretFile{{Key: "api_token_file", Path: c.APITokenFile}}}
}

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	s, err := New(*c, o.Log)
	if err != nil {
		return nil, err
	}
	return &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close}, nil
}

func (c *Config) checkHost(host string) error {
	if c.HasZone(host) {
		return nil
	}
	return fmt.Errorf("has no zone for %s; add it to `zones`", host)
}
