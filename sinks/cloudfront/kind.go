package cloudfront

import (
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var _ sinks.Config = (*Config)(nil)

// Kind is the key of the block.
func (c *Config) Kind() string { return "cloudfront" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Known replaces what an offline check does not know. While a host is not known, any is accepted.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known := *c
	if unset(known.DistributionID) {
		known.DistributionID = "EOFFLINE0000"
	}
	if unset(known.Region) {
		known.Region = DefaultConfig().Region
	}
	if unset(known.BaseURL) {
		known.BaseURL = ""
	}
	known.Hosts = nil
	for _, host := range c.Hosts {
		if unset(host) {
			known.anyHost, host = true, "offline.example"
		}
		known.Hosts = append(known.Hosts, host)
	}
	return &known
}

// Using returns the same: Check asks for all that the sink needs.
func (c *Config) Using(invalidation.KindSet) sinks.Config { return c }

// Traits returns what else there is to know.
func (c *Config) Traits() sinks.Traits { return sinks.Traits{} }

// Budgets returns none: the service paces calls by its answers.
func (c *Config) Budgets() []sinks.Budget { return nil }

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	s, err := New(*c, o.Log)
	if err != nil {
		return nil, err
	}
	return &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close, Billed: s.Paths}, nil
}
