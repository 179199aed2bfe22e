package config

import (
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
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
	Listen      strictyaml.Text         `yaml:"listen"`
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
	Kinds kindBlocks `yaml:",inline"`
	Warm  *warmBlock `yaml:"warm"`

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
	Kinds  rawFlushKinds                     `yaml:",inline"`
	Pace   strictyaml.Located[time.Duration] `yaml:"pace"`
	AtMost strictyaml.Located[time.Duration] `yaml:"at_most"`
}

// rawFlushKinds are the values by kind. A kind without values has a bool.
type rawFlushKinds struct {
	lists [invalidation.NumKinds][]strictyaml.Text
	flags [invalidation.NumKinds]strictyaml.Located[bool]
}

// Keys lists the kinds that a flush can name.
func (f *rawFlushKinds) Keys() []string { return invalidation.Plurals(invalidation.InFlush()) }

// Into returns the list of a kind, or its bool.
func (f *rawFlushKinds) Into(key string) any {
	k := slices.Index(invalidation.Plurals(invalidation.All()), key)
	if invalidation.Kind(k).Form() == invalidation.FormFlag {
		return &f.flags[k]
	}
	return &f.lists[k]
}

type rawHTTP struct {
	Listen    strictyaml.Text `yaml:"listen"`
	Advertise strictyaml.Text `yaml:"advertise"`
	TokenFile string          `yaml:"token_file"`
}

type rawLog struct {
	Level  strictyaml.Text `yaml:"level"`
	Format strictyaml.Text `yaml:"format"`
}
