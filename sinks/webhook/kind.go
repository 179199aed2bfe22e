package webhook

import (
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var _ sinks.Config = (*Config)(nil)

// Kind is the key of the block.
func (c *Config) Kind() string { return "webhook" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Known replaces what an offline check does not know.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known := *c
	if unset(known.URL) {
		known.URL = "https://offline"
	}
	if unset(known.JSON) {
		known.JSON = ""
	}
	return &known
}

// Using returns the same: Check asks for all that the sink needs.
func (c *Config) Using(invalidation.KindSet) sinks.Config { return c }

// Accepts takes every value: what the service takes is not known here.
func (c *Config) Accepts(invalidation.Invalidation) error { return nil }

// Traits returns what else there is to know.
func (c *Config) Traits() sinks.Traits {
	return sinks.Traits{RawTags: true, TellsPages: true, SecretFiles: []sinks.SecretFile{{Key: "hmac_file", Path: c.HMACFile}}}
}

// Budgets returns none: the service is the pace.
func (c *Config) Budgets() []sinks.Budget { return nil }

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	cfg := *c
	if o.Observer != nil {
		cfg.Hits, cfg.Pages = o.Observer.Hits("values"), o.Observer.Pages()
	}
	s, err := New(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	return &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close,
		Unproven: "that the receiver purges what it says that it does; only the receiver can tell"}, nil
}
