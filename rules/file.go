package rules

import (
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/rules/urlvariant"
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
	Lists rawLists `yaml:",inline"`
}

// rawLists are the lists by kind.
type rawLists [invalidation.NumKinds]rawList

// Keys lists the kinds that a rule can name.
func (l *rawLists) Keys() []string { return invalidation.Plurals(invalidation.InRules()) }

// Into returns the list of a kind.
func (l *rawLists) Into(key string) any {
	k := slices.Index(invalidation.Plurals(invalidation.All()), key)
	l[k].kind = invalidation.Kind(k)
	return &l[k]
}

// rawList is one list of rawValues. texts is nil without the key.
type rawList struct {
	kind  invalidation.Kind
	texts []rawText
}

// UnmarshalYAML reads a list of texts, or of fields.
func (l *rawList) UnmarshalYAML(n *strictyaml.Node) error {
	if l.kind.Form() == invalidation.FormField {
		var fields []rawField
		err := n.Decode(&fields)
		l.texts = convert(fields, func(f rawField) rawText { return rawText{Text: f.f.Key, field: f.f.Field} })
		return err
	}
	var texts []strictyaml.Text
	err := n.Decode(&texts)
	l.texts = convert(texts, func(t strictyaml.Text) rawText { return rawText{Text: t} })
	return err
}

// convert returns nil for nil.
func convert[T any](in []T, one func(T) rawText) []rawText {
	if in == nil {
		return nil
	}
	out := make([]rawText, len(in))
	for i := range in {
		out[i] = one(in[i])
	}
	return out
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

// lists are those of all kinds that a rule can name.
func (v *rawValues) lists() []rawList {
	var out []rawList
	for _, k := range invalidation.InRules() {
		out = append(out, rawList{kind: k, texts: v.Lists[k].texts})
	}
	return out
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
