package rules

import (
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// rawFile is a rules file as written. Keys that a later version gives a
// meaning are fields too, so that they are refused by name and never taken for
// a slip.
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
	Keys       []strictyaml.Text `yaml:"keys"`
	Tags       []strictyaml.Text `yaml:"tags"`
	Sinks      []strictyaml.Text `yaml:"sinks"`
	Unknown    rawLiterals       `yaml:"unknown"`
	OnTruncate rawLiterals       `yaml:"on_truncate"`

	URLs        *strictyaml.Node `yaml:"urls"`
	URLPrefixes *strictyaml.Node `yaml:"url_prefixes"`
	KeyPrefixes *strictyaml.Node `yaml:"key_prefixes"`
	Generations *strictyaml.Node `yaml:"generations"`
	To          *strictyaml.Node `yaml:"to"`
	Collapse    *strictyaml.Node `yaml:"collapse"`
	Every       *strictyaml.Node `yaml:"every"`
	Rollout     *strictyaml.Node `yaml:"rollout"`
	Lookup      *strictyaml.Node `yaml:"lookup"`
	Message     *strictyaml.Node `yaml:"message"`
	Vars        *strictyaml.Node `yaml:"vars"`
}

// rawLiterals is what unknown: and on_truncate: name; node is nil without the key.
type rawLiterals struct {
	node *strictyaml.Node
	f    literalFields
}

type literalFields struct {
	Keys []strictyaml.Text `yaml:"keys"`
	Tags []strictyaml.Text `yaml:"tags"`

	URLs        *strictyaml.Node `yaml:"urls"`
	URLPrefixes *strictyaml.Node `yaml:"url_prefixes"`
	KeyPrefixes *strictyaml.Node `yaml:"key_prefixes"`
	Generations *strictyaml.Node `yaml:"generations"`
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
func (r *rawLiterals) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	return n.Decode(&r.f)
}

// later is a key that this version knows of and refuses.
type later struct {
	name string
	node *strictyaml.Node
}

func (f *rawFields) later() []later {
	return []later{
		{"urls", f.URLs}, {"url_prefixes", f.URLPrefixes}, {"key_prefixes", f.KeyPrefixes},
		{"generations", f.Generations}, {"to", f.To}, {"collapse", f.Collapse}, {"every", f.Every},
		{"rollout", f.Rollout}, {"lookup", f.Lookup}, {"message", f.Message},
	}
}

func (f *literalFields) later() []later {
	return []later{
		{"urls", f.URLs}, {"url_prefixes", f.URLPrefixes}, {"key_prefixes", f.KeyPrefixes}, {"generations", f.Generations},
	}
}
