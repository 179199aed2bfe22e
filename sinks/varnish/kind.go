package varnish

import (
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var _ sinks.Config = (*Config)(nil)

// Kind is the key of the block.
func (c *Config) Kind() string { return "varnish" }

// SetDefaults stores the values of keys that the file leaves out.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// Known leaves out the nodes that an offline check does not know, since they cannot be compared with
// the others.
func (c *Config) Known(unset func(string) bool) sinks.Config {
	known := *c
	known.Nodes = nil
	for _, n := range c.Nodes {
		if !unset(n) {
			known.Nodes = append(known.Nodes, n)
		}
	}
	if len(known.Nodes) == 0 && len(c.Nodes) > 0 {
		known.Nodes = []string{"http://offline"}
	}
	return &known
}

// Using returns a copy whose check tries the requests that these kinds need.
func (c *Config) Using(kinds invalidation.KindSet) sinks.Config {
	one := *c
	if one.Uses = kinds; kinds.Has(invalidation.Everything) {
		one.Uses |= invalidation.Kinds(invalidation.URLPrefix) // both are bans
	}
	return &one
}

// Traits returns what else there is to know.
func (c *Config) Traits() sinks.Traits {
	t := sinks.Traits{Headers: c.HeaderUse(), TellsPages: true}
	if !c.Bans {
		t.Hints = map[invalidation.Kind]string{
			invalidation.Everything: "Varnish does that by a ban; add bans: true and the VCL for it, or write flush: {tags: [...]} with a tag that every object carries",
		}
	}
	return t
}

// Budgets returns none: the nodes are the pace.
func (c *Config) Budgets() []sinks.Budget { return nil }

// Open returns a sink that has not connected yet.
func (c *Config) Open(o sinks.Options) (*sinks.Opened, error) {
	cfg := *c
	if o.Observer != nil {
		cfg.Hits, cfg.Pages = o.Observer.Hits("tags"), o.Observer.Pages()
	}
	s, err := New(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	return &sinks.Opened{Sink: s, Check: s.Check, Close: s.Close, Probe: s.Probe,
		Unproven: "that the VCL of each node purges what it says that it does"}, nil
}
