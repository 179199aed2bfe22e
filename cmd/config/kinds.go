package config

import (
	"reflect"

	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/bunny"
	"github.com/walpurge/walpurge/sinks/cloudflare"
	"github.com/walpurge/walpurge/sinks/cloudfront"
	"github.com/walpurge/walpurge/sinks/fastly"
	"github.com/walpurge/walpurge/sinks/valkey"
	"github.com/walpurge/walpurge/sinks/varnish"
	"github.com/walpurge/walpurge/sinks/warm"
	"github.com/walpurge/walpurge/sinks/webhook"
)

// kindBlocks is the list of the kinds of sinks. A new kind is one line here: the key of its block and
// its Config. All else is derived from the list: reading, the JSON Schema, error texts, checks.
type kindBlocks struct {
	Valkey     *valkeyBlock              `yaml:"valkey"`
	Cloudflare *block[cloudflare.Config] `yaml:"cloudflare"`
	Fastly     *block[fastly.Config]     `yaml:"fastly"`
	CloudFront *block[cloudfront.Config] `yaml:"cloudfront"`
	Varnish    *block[varnish.Config]    `yaml:"varnish"`
	Webhook    *webhookBlock             `yaml:"webhook"`
	Bunny      *block[bunny.Config]      `yaml:"bunny"`
}

// kindBlock is the block of one kind in a file.
type kindBlock interface {
	// at is where the block begins.
	at() strictyaml.Pos
	// config is what was read into it.
	config() sinks.Config
	// check reports what is wrong with it.
	check(l *loader)
}

// Kinds lists the configurations of all kinds with their defaults, in the order of kindBlocks.
func Kinds() []sinks.Config {
	all := reflect.New(reflect.TypeFor[kindBlocks]()).Elem()
	for i := range all.NumField() {
		all.Field(i).Set(reflect.New(all.Field(i).Type().Elem()))
	}
	var out []sinks.Config
	for _, b := range given(all) {
		b.config().SetDefaults()
		out = append(out, b.config())
	}
	return out
}

// kindNames are the keys of the blocks.
func kindNames() (names []string) {
	for _, c := range Kinds() {
		names = append(names, c.Kind())
	}
	return append(names, new(warm.Config).Kind())
}

// given are the blocks that are there.
func given(blocks reflect.Value) (out []kindBlock) {
	for i := range blocks.NumField() {
		if f := blocks.Field(i); !f.IsNil() {
			out = append(out, f.Interface().(kindBlock))
		}
	}
	return out
}

func (k kindBlocks) given() []kindBlock { return given(reflect.ValueOf(k)) }

// block is the block of a kind whose keys are those of its Config.
type block[T any] struct {
	pos  strictyaml.Pos
	Keys T `yaml:",inline"`
}

func (b *block[T]) at() strictyaml.Pos   { return b.pos }
func (b *block[T]) config() sinks.Config { return any(&b.Keys).(sinks.Config) }
func (b *block[T]) check(l *loader)      { l.known(b, "") }

// UnmarshalYAML reads the block over the defaults.
func (b *block[T]) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos = n.Pos
	b.config().SetDefaults()
	return n.Decode(&b.Keys)
}

// known reports what is wrong with a block, as far as its values are known. No message has the secret.
func (l *loader) known(b kindBlock, secret string) {
	if err := b.config().Known(l.unset).Validate(); err != nil {
		l.each(b.at(), err, secret)
	}
}

// valkeyBlock has the key that is a bool or a block, and the block that may not be empty.
type valkeyBlock struct {
	pos strictyaml.Pos
	valkeyKeys
}

type valkeyKeys struct {
	valkey.Config `yaml:",inline"`
	SentinelTLS   *sentinelTLS `yaml:"sentinel_tls"`
	Publish       publishBlock `yaml:"publish"`
}

func (b *valkeyBlock) at() strictyaml.Pos   { return b.pos }
func (b *valkeyBlock) config() sinks.Config { return &b.Config }

// check lets no message have the URL, which may hold a password.
func (b *valkeyBlock) check(l *loader) {
	secret := b.URL
	if l.unset(secret) {
		secret = ""
	}
	l.known(b, secret)
}

// UnmarshalYAML reads the block over the defaults.
func (b *valkeyBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, valkey.DefaultConfig()
	err := n.Decode(&b.valkeyKeys)
	b.Config.SentinelTLS = (*valkey.SentinelTLS)(b.valkeyKeys.SentinelTLS)
	b.Config.Publish = b.valkeyKeys.Publish.PublishConfig
	return err
}

// publishBlock has a channel where the file has the block. Without one nothing would be published, which the
// file cannot mean.
type publishBlock struct{ valkey.PublishConfig }

// UnmarshalYAML reads the block, also where the file has nothing after its key.
func (b *publishBlock) UnmarshalYAML(n *strictyaml.Node) error {
	if err := n.Decode(&b.PublishConfig); err != nil || b.Channel != "" {
		return err
	}
	for _, p := range n.Pairs {
		return p.Value.Errorf("publish.channel: the name is empty; write one such as invalidations, or remove `publish`")
	}
	return n.Errorf("publish: channel is missing; write publish: {channel: invalidations}, or remove `publish`")
}

// sentinelTLS is a bool, or a block like tls.
type sentinelTLS valkey.SentinelTLS

// UnmarshalYAML reads either form.
func (t *sentinelTLS) UnmarshalYAML(n *strictyaml.Node) error {
	if n.Kind == strictyaml.Mapping {
		t.Enabled = true
		return n.Decode(&t.TLSConfig)
	}
	return n.Decode(&t.Enabled)
}

// warmBlock is the block of the kind that purges nothing.
type warmBlock struct {
	pos  strictyaml.Pos
	Keys warm.Config `yaml:",inline"`
}

// UnmarshalYAML reads the block over the defaults.
func (b *warmBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Keys = n.Pos, warm.DefaultConfig()
	return n.Decode(&b.Keys)
}

// webhookBlock has the expression as a text that knows its place.
type webhookBlock struct {
	pos strictyaml.Pos
	webhookKeys
}

type webhookKeys struct {
	webhook.Config `yaml:",inline"`
	JSON           strictyaml.Text `yaml:"json"`
}

func (b *webhookBlock) at() strictyaml.Pos   { return b.pos }
func (b *webhookBlock) config() sinks.Config { return &b.Config }

// UnmarshalYAML reads the block over the defaults.
func (b *webhookBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, webhook.DefaultConfig()
	err := n.Decode(&b.webhookKeys)
	b.Config.JSON = b.JSON.Value
	return err
}

// check compiles the expression by itself, to report the place in it.
func (b *webhookBlock) check(l *loader) {
	if b.JSON.Given() && b.JSON.Value == "" {
		l.failf(b.JSON.Pos(), "webhook.json is empty; write an expression, or take it out for the body that the documentation has")
	}
	text := b.Config.JSON
	if l.unset(text) {
		text = ""
	}
	// What the compiler says may quote what a variable holds.
	expanded := b.JSON.String() != strictyaml.NewText(b.JSON.Value, b.JSON.Pos()).String()
	for _, f := range webhook.CheckJSON(text) {
		if expanded {
			l.failf(b.JSON.Pos(), "webhook.json: %s: with its variables replaced, the expression does not work; write them inside quotes", b.JSON)
			break
		}
		l.failf(b.JSON.At(f.Offset), "webhook.json: %s", f.Text)
	}
	rest := b.Config
	rest.JSON = ""
	if err := rest.Known(l.unset).Validate(); err != nil {
		l.each(b.pos, err, "")
	}
}
