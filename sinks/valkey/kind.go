package valkey

import (
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var _ sinks.Config = (*Config)(nil)

// Kind is the key of the block.
func (c *Config) Kind() string { return "valkey" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Known replaces what an offline check does not know.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known := *c
	if unset(known.URL) {
		known.URL = "valkeys://offline"
	}
	return &known
}

// Using returns a copy whose check asks for the permissions that these kinds need.
func (c *Config) Using(kinds invalidation.KindSet) sinks.Config {
	one := *c
	if one.Uses = kinds; kinds.Has(invalidation.Key) || kinds.Has(invalidation.KeyPrefix) {
		one.Uses |= invalidation.Kinds(invalidation.KeyPattern) // a TRUNCATE
	}
	return &one
}

// Accepts takes every value: a key may be any bytes.
func (c *Config) Accepts(invalidation.Invalidation) error { return nil }

// Traits returns what else there is to know.
func (c *Config) Traits() sinks.Traits {
	t := sinks.Traits{RawTags: true, Hints: c.Hints(), Free: true, SecretFiles: []sinks.SecretFile{
		{Key: "password_file", Path: c.PasswordFile}, {Key: "sentinel_password_file", Path: c.SentinelPasswordFile}, {Key: "tls.key_file", Path: c.TLS.KeyFile},
	}}
	if c.SentinelTLS != nil {
		t.SecretFiles = append(t.SecretFiles, sinks.SecretFile{Key: "sentinel_tls.key_file", Path: c.SentinelTLS.KeyFile})
	}
	for _, host := range c.ClearText() {
		t.ClearText = append(t.ClearText, sinks.ClearText{Key: "url", Host: host, Fix: "write valkeys:// and set up TLS at the server"})
	}
	return t
}

// Budgets returns none: the server is the pace.
func (c *Config) Budgets() []sinks.Budget { return nil }

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	cfg := *c
	if o.Observer != nil {
		cfg.Hits = o.Observer.Hits("keys")
		if cfg.Publish.Channel != "" {
			cfg.Published = o.Observer.Published()
		}
	}
	s, err := New(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	opened := &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close, WalkTime: s.WalkTime, Nodes: s.Nodes}
	if c.UsesTags() {
		opened.Unproven, opened.Probe = "that a purge by tag finds the tag's sets and their entries", s.Probe
	}
	return opened, nil
}
