package config

import (
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks/cloudfront"
	"github.com/walpurge/walpurge/sinks/varnish"
	"github.com/walpurge/walpurge/sinks/webhook"
)

// The blocks begin with their package's defaults.

type varnishBlock struct {
	pos strictyaml.Pos
	varnish.Config
}

// UnmarshalYAML reads the block over the defaults.
func (b *varnishBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, varnish.DefaultConfig()
	return n.Decode(&b.Config)
}

type cloudfrontBlock struct {
	pos strictyaml.Pos
	cloudfront.Config
}

// UnmarshalYAML reads the block over the defaults.
func (b *cloudfrontBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, cloudfront.DefaultConfig()
	return n.Decode(&b.Config)
}

type webhookBlock struct {
	pos strictyaml.Pos
	webhookKeys
}

// webhookKeys has the expression as a text that knows its place.
type webhookKeys struct {
	webhook.Config `yaml:",inline"`
	JSON           strictyaml.Text `yaml:"json"`
}

// UnmarshalYAML reads the block over the defaults.
func (b *webhookBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, webhook.DefaultConfig()
	err := n.Decode(&b.webhookKeys)
	b.Config.JSON = b.JSON.Value
	return err
}

// origins reads the kinds of sink that are more than one provider's: the caches
// in front of an application, and the application itself. It returns how many
// the sink has, what they can purge, and, where a kind knows it, why a value can
// never be.
func (l *loader) origins(s *Sink, raw *rawSink) (kinds int, can invalidation.KindSet, accepts func(invalidation.Invalidation) error) {
	if b := raw.Varnish; b != nil {
		kinds++
		s.Varnish, can, accepts = &b.Config, b.Config.Kinds(), b.Config.Accepts
		s.Caps, s.Headers = b.Caps(), b.HeaderUse()
		l.varnish(b)
		if f := raw.Flush; f != nil && f.Everything.Value && !b.Bans {
			l.failf(f.Everything.Pos, "flush.everything: Varnish does that by a ban; add bans: true and the VCL for it, or write flush: {tags: [...]} with a tag that every object carries")
			f.Everything.Value = false
		}
	}
	if b := raw.CloudFront; b != nil {
		kinds++
		s.CloudFront, can = &b.Config, b.Config.Kinds()
		s.Caps = b.Caps()
		check := b.Config
		if l.unset(check.DistributionID) {
			check.DistributionID = "EOFFLINE0000"
		}
		if l.unset(check.Region) {
			check.Region = cloudfront.DefaultConfig().Region
		}
		if l.unset(check.BaseURL) {
			check.BaseURL = ""
		}
		check.Hosts = l.known(check.Hosts, "offline.example")
		known := b.Config
		if slices.ContainsFunc(b.Hosts, l.unset) {
			known.Hosts = nil
		}
		accepts = known.Accepts
		if err := check.Validate(); err != nil {
			l.each(b.pos, err, "")
		}
	}
	if b := raw.Webhook; b != nil {
		kinds++
		s.Webhook, can = &b.Config, b.Config.Kinds()
		s.Caps, s.RawTags = b.Caps(), true
		l.webhook(b)
	}
	return kinds, can, accepts
}

// known replaces values that an offline check does not know.
func (l *loader) known(values []string, stand string) []string {
	var out []string
	for _, v := range values {
		if l.unset(v) {
			v = stand
		}
		out = append(out, v)
	}
	return out
}

func (l *loader) varnish(b *varnishBlock) {
	check := b.Config
	check.Nodes = nil
	for _, n := range b.Nodes {
		// What is not known cannot be compared with the others either.
		if !l.unset(n) {
			check.Nodes = append(check.Nodes, n)
		}
	}
	if len(check.Nodes) == 0 && len(b.Nodes) > 0 {
		check.Nodes = []string{"http://offline"}
	}
	if err := check.Validate(); err != nil {
		l.each(b.pos, err, "")
	}
}

func (l *loader) webhook(b *webhookBlock) {
	check := b.Config
	if l.unset(check.URL) {
		check.URL = "https://offline"
	}
	if b.JSON.Given() && b.JSON.Value == "" {
		l.failf(b.JSON.Pos(), "webhook.json is empty; write an expression, or take it out for the body that the documentation has")
	}
	if l.unset(check.JSON) {
		check.JSON = ""
	}
	// What the compiler says may quote what a variable holds.
	expanded := b.JSON.String() != strictyaml.NewText(b.JSON.Value, b.JSON.Pos()).String()
	for _, f := range webhook.CheckJSON(check.JSON) {
		if expanded {
			l.failf(b.JSON.Pos(), "webhook.json: %s: with its variables replaced, this is no expression that works; write them inside quotes", b.JSON)
			break
		}
		l.failf(b.JSON.At(f.Offset), "webhook.json: %s", f.Text)
	}
	check.JSON = ""
	if err := check.Validate(); err != nil {
		l.each(b.pos, err, "")
	}
}
