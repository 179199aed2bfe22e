package config

import (
	"time"

	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks/cloudflare"
	"github.com/walpurge/walpurge/sinks/fastly"
	"github.com/walpurge/walpurge/sinks/valkey"
)

// The raw types are the file as it is written.

type rawFile struct {
	Pipeline     strictyaml.Text                   `yaml:"pipeline"`
	Rules        []strictyaml.Text                 `yaml:"rules"`
	DataDir      string                            `yaml:"data_dir"`
	Postgres     rawPostgres                       `yaml:"postgres"`
	NATS         *rawNATS                          `yaml:"nats"`
	Stream       rawStream                         `yaml:"stream"`
	Sinks        strictyaml.Map[*rawSink]          `yaml:"sinks"`
	HTTP         rawHTTP                           `yaml:"http"`
	Log          rawLog                            `yaml:"log"`
	DrainTimeout strictyaml.Located[time.Duration] `yaml:"drain_timeout"`
	Retired      []strictyaml.Text                 `yaml:"retired"`
}

type rawPostgres struct {
	URL          strictyaml.Text                     `yaml:"url"`
	PasswordFile string                              `yaml:"password_file"`
	Slot         string                              `yaml:"slot"`
	Publication  string                              `yaml:"publication"`
	Manage       bool                                `yaml:"manage"`
	Failover     *strictyaml.Node                    `yaml:"failover"`
	ColumnLists  bool                                `yaml:"column_lists"`
	Streaming    bool                                `yaml:"streaming"`
	MaxRetained  strictyaml.Located[strictyaml.Size] `yaml:"max_retained"`
	OnGap        strictyaml.Text                     `yaml:"on_gap"`
	Formerly     strictyaml.Text                     `yaml:"formerly"`
	Replicas     *strictyaml.Node                    `yaml:"replicas"`
	Visible      bool                                `yaml:"visible"`
	Heartbeat    strictyaml.Located[time.Duration]   `yaml:"heartbeat"`
}

type rawNATS struct {
	URL         strictyaml.Text         `yaml:"url"`
	Listen      string                  `yaml:"listen"`
	TokenFile   string                  `yaml:"token_file"`
	Credentials string                  `yaml:"credentials"`
	NkeyFile    string                  `yaml:"nkey_file"`
	Domain      strictyaml.Text         `yaml:"domain"`
	Replicas    strictyaml.Located[int] `yaml:"replicas"`
	TLS         rawTLS                  `yaml:"tls"`
}

type rawTLS struct {
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// HandshakeFirst is for servers that begin with TLS instead of with their INFO.
	HandshakeFirst bool `yaml:"handshake_first"`
}

type rawStream struct {
	MaxAge   strictyaml.Located[time.Duration]   `yaml:"max_age"`
	MaxBytes strictyaml.Located[strictyaml.Size] `yaml:"max_bytes"`
	Confirm  strictyaml.Text                     `yaml:"confirm"`
}

type rawSink struct {
	Valkey     *valkeyBlock     `yaml:"valkey"`
	Cloudflare *cloudflareBlock `yaml:"cloudflare"`
	Fastly     *fastlyBlock     `yaml:"fastly"`
	CloudFront *cloudfrontBlock `yaml:"cloudfront"`
	Varnish    *varnishBlock    `yaml:"varnish"`
	Webhook    *webhookBlock    `yaml:"webhook"`

	After   []strictyaml.Text                 `yaml:"after"`
	MaxWait strictyaml.Located[time.Duration] `yaml:"max_wait"`
	Takes   []strictyaml.Text                 `yaml:"takes"`
	Flush   *rawFlush                         `yaml:"flush"`

	SecondPurge strictyaml.Located[time.Duration]   `yaml:"second_purge"`
	MaxBacklog  strictyaml.Located[strictyaml.Size] `yaml:"max_backlog"`
	OnOverflow  strictyaml.Text                     `yaml:"on_overflow"`
	Mode        strictyaml.Text                     `yaml:"mode"`
	Rollout     strictyaml.Located[int]             `yaml:"rollout"`
	Formerly    strictyaml.Text                     `yaml:"formerly"`
}

type rawFlush struct {
	Everything  strictyaml.Located[bool]          `yaml:"everything"`
	KeyPatterns []strictyaml.Text                 `yaml:"key_patterns"`
	Tags        []strictyaml.Text                 `yaml:"tags"`
	URLPrefixes []strictyaml.Text                 `yaml:"url_prefixes"`
	Generations []strictyaml.Text                 `yaml:"generations"`
	Pace        strictyaml.Located[time.Duration] `yaml:"pace"`
	AtMost      strictyaml.Located[time.Duration] `yaml:"at_most"`
}

type rawHTTP struct {
	Listen    strictyaml.Text `yaml:"listen"`
	TokenFile string          `yaml:"token_file"`
}

type rawLog struct {
	Level  strictyaml.Text `yaml:"level"`
	Format strictyaml.Text `yaml:"format"`
}

// The blocks of the kinds begin with their package's defaults.
type valkeyBlock struct {
	pos strictyaml.Pos
	valkeyKeys
}

// valkeyKeys has the key that is a bool or a block, and the block that may not be empty.
type valkeyKeys struct {
	valkey.Config `yaml:",inline"`
	SentinelTLS   *sentinelTLS `yaml:"sentinel_tls"`
	Publish       publishBlock `yaml:"publish"`
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

// UnmarshalYAML reads the block over the defaults.
func (b *valkeyBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, valkey.DefaultConfig()
	err := n.Decode(&b.valkeyKeys)
	b.Config.SentinelTLS = (*valkey.SentinelTLS)(b.valkeyKeys.SentinelTLS)
	b.Config.Publish = b.valkeyKeys.Publish.PublishConfig
	return err
}

type cloudflareBlock struct {
	pos strictyaml.Pos
	cloudflare.Config
}

// UnmarshalYAML reads the block over the defaults.
func (b *cloudflareBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, cloudflare.DefaultConfig()
	return n.Decode(&b.Config)
}

type fastlyBlock struct {
	pos strictyaml.Pos
	fastly.Config
}

// UnmarshalYAML reads the block over the defaults.
func (b *fastlyBlock) UnmarshalYAML(n *strictyaml.Node) error {
	b.pos, b.Config = n.Pos, fastly.DefaultConfig()
	return n.Decode(&b.Config)
}
