package rules

import (
	"time"

	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/rules/urlvariant"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// rawFile is a rules file as written.
type rawFile struct {
	Vars     vars        `yaml:"vars"`
	Defaults rawDefaults `yaml:"defaults"`
	Rules    []rawRule   `yaml:"rules"`
}

type rawDefaults struct {
	Sinks []strictyaml.Text `yaml:"sinks"`
}

// rawRule is one entry of rules:.
type rawRule struct {
	node *strictyaml.Node
	f    rawFields
}

type rawFields struct {
	Name       strictyaml.Text   `yaml:"name"`
	Table      strictyaml.Text   `yaml:"table"`
	Ops        []strictyaml.Text `yaml:"ops"`
	When       strictyaml.Text   `yaml:"when"`
	Values     rawValues         `yaml:",inline"`
	Sinks      []strictyaml.Text `yaml:"sinks"`
	Unknown    rawUnknown        `yaml:"unknown"`
	OnTruncate rawBlock          `yaml:"on_truncate"`
	To         rawTo             `yaml:"to"`
	Lookup     rawLookups        `yaml:"lookup"`
	Headers    rawHeaders        `yaml:"headers"`
	Message    strictyaml.Text   `yaml:"message"`

	Collapse rawCollapse                       `yaml:"collapse"`
	Every    strictyaml.Located[time.Duration] `yaml:"every"`
	Rollout  strictyaml.Located[int]           `yaml:"rollout"`

	Vars *strictyaml.Node `yaml:"vars"`
}

// rawValues are the lists of values of a rule, or of a block in it.
type rawValues struct {
	Keys        []strictyaml.Text `yaml:"keys"`
	Tags        []strictyaml.Text `yaml:"tags"`
	URLs        []strictyaml.Text `yaml:"urls"`
	URLPrefixes []strictyaml.Text `yaml:"url_prefixes"`
	KeyPrefixes []strictyaml.Text `yaml:"key_prefixes"`
	Generations []strictyaml.Text `yaml:"generations"`
	Fields      []rawField        `yaml:"fields"`
}

// rawList is one list of rawValues.
type rawList struct {
	kind  invalidation.Kind
	key   string
	texts []rawText
}

// rawText is a value as written: a template; for a Field that of its key, with field beside it.
type rawText struct {
	strictyaml.Text
	field strictyaml.Text
}

// source is the text as messages show it.
func (t rawText) source() string {
	if t.field.Given() {
		return t.Value + " " + t.field.Value
	}
	return t.Value
}

func (v *rawValues) lists() []rawList {
	plain := func(kind invalidation.Kind, texts []strictyaml.Text) rawList {
		l := rawList{kind: kind, key: kind.Plural()}
		if texts != nil {
			l.texts = make([]rawText, len(texts))
		}
		for i, t := range texts {
			l.texts[i] = rawText{Text: t}
		}
		return l
	}
	fields := plain(invalidation.Field, nil)
	if v.Fields != nil {
		fields.texts = make([]rawText, len(v.Fields))
	}
	for i := range v.Fields {
		fields.texts[i] = rawText{Text: v.Fields[i].f.Key, field: v.Fields[i].f.Field}
	}
	return []rawList{
		plain(invalidation.Key, v.Keys), plain(invalidation.Tag, v.Tags), plain(invalidation.URL, v.URLs), plain(invalidation.URLPrefix, v.URLPrefixes),
		plain(invalidation.KeyPrefix, v.KeyPrefixes), plain(invalidation.Generation, v.Generations), fields,
	}
}

func (v *rawValues) empty() bool {
	for _, list := range v.lists() {
		if len(list.texts) > 0 {
			return false
		}
	}
	return true
}

// rawBlock is a block of values below a key; node is nil without the key.
type rawBlock struct {
	node *strictyaml.Node
	f    rawValues
}

// rawUnknown is what unknown: holds.
type rawUnknown struct {
	node *strictyaml.Node
	f    rawUnknownFields
}

type rawUnknownFields struct {
	Values rawValues                `yaml:",inline"`
	Covers strictyaml.Located[bool] `yaml:"covers"`
}

// rawHeaders is what headers: holds; node is nil without the key.
type rawHeaders struct {
	node    *strictyaml.Node
	headers urlvariant.Headers
}

// UnmarshalYAML keeps the node, for the block's place.
func (r *rawHeaders) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	return n.Decode(&r.headers)
}

// rawTo is what to: adds for single sinks.
type rawTo struct {
	node  *strictyaml.Node
	sinks strictyaml.Map[rawBlock]
}

// UnmarshalYAML keeps the node, for the block's place.
func (r *rawTo) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	return n.Decode(&r.sinks)
}

// UnmarshalYAML keeps the node, for the rule's place.
func (r *rawRule) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	if n.Kind == strictyaml.Null {
		return n.Errorf("there is no rule here; write one or remove the dash")
	}
	return n.Decode(&r.f)
}

// UnmarshalYAML keeps the node, for the block's place.
func (r *rawBlock) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	return n.Decode(&r.f)
}

// UnmarshalYAML keeps the node, for the block's place.
func (r *rawUnknown) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	return n.Decode(&r.f)
}
