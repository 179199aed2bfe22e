package fastly

import (
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var _ sinks.Config = (*Config)(nil)

// Kind is the key of the block.
func (c *Config) Kind() string { return "fastly" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Known replaces what an offline check does not know.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known := *c
	if unset(known.ServiceID) {
		known.ServiceID = "0"
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
	return sinks.Traits{Headers: c.HeaderUse(), SecretFiles: []sinks.SecretFile{{Key: "api_token_file", Path: c.APITokenFile}}}
}

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	one := *c
	one.FlushesAll = slices.ContainsFunc(o.Flush, func(inv invalidation.Invalidation) bool { return inv.Kind == invalidation.Everything })
	s, err := New(one, o.Log)
	if err != nil {
		return nil, err
	}
	return &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close}, nil
}
