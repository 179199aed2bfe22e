package rules

import (
	"errors"
	"strings"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// rawField is one entry of fields:, as a file has it.
type rawField struct {
	node *strictyaml.Node
	f    rawFieldParts
}

type rawFieldParts struct {
	Key   strictyaml.Text `yaml:"key"`
	Field strictyaml.Text `yaml:"field"`
}

// UnmarshalYAML reads a mapping with both a key and a field.
func (r *rawField) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	if n.Kind != strictyaml.Mapping {
		return n.Errorf(`%s is not a field; write it like {key: "products", field: "{id}"}`, n)
	}
	if err := n.Decode(&r.f); err != nil {
		return err
	}
	switch {
	case !r.f.Key.Given():
		return n.Errorf("this field has no `key`; name the hash, like {key: \"products\", field: \"{id}\"}")
	case !r.f.Field.Given():
		return n.Errorf("this field has no `field`; name it, like {key: \"products\", field: \"{id}\"}, or purge the whole hash with `keys`")
	case r.f.Key.Value == "":
		return n.Errorf("the `key` is empty; name the hash")
	}
	return nil
}

// ParseField reads a field as rules, and the tests of rules, write it.
func ParseField(n *strictyaml.Node) (value string, err error) {
	var r rawField
	if err := n.Decode(&r); err != nil {
		return "", err
	}
	return invalidation.JoinField(r.f.Key.Value, r.f.Field.Value), nil
}

// hash is the template of the key of a Field.
func (t *template) hash() *template {
	out := &template{source: t.source}
	for _, p := range t.parts {
		if p.fills() {
			out.add(p)
			continue
		}
		head, _, last := strings.Cut(p.literal, string([]byte{invalidation.FieldSeparator}))
		out.add(part{literal: invalidation.UnescapeField(head)})
		if last {
			break
		}
	}
	return out
}

// fieldFrame says which parts are to be escaped.
func (t *template) fieldFrame() error {
	for i := range t.parts {
		t.parts[i].escape = t.parts[i].fills()
	}
	if len(t.hash().parts) == 0 {
		return errors.New("the key is empty; name the hash")
	}
	return nil
}
