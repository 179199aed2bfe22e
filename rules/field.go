package rules

import (
	"errors"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// fieldSeparator stands between the key and the field in the value of a Field. A key or field
// that has this byte, or the one that begins an escape, has it escaped, so that a value can
// be cut in one way only. Almost no application uses either byte in a name.
const (
	fieldSeparator = 0x00
	fieldEscape    = 0x01
)

// appendField escapes a part of a key or of a field for the value of a Field.
func appendField(dst, text []byte) []byte {
	for _, c := range text {
		switch c {
		case fieldSeparator:
			dst = append(dst, fieldEscape, 1)
		case fieldEscape:
			dst = append(dst, fieldEscape, 2)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// unescapeField undoes appendField.
func unescapeField(text string) string {
	if strings.IndexByte(text, fieldEscape) < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == fieldEscape && i+1 < len(text) {
			i++
			out = append(out, text[i]-1)
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}

// JoinField returns the value of a Field: the key of a hash and a field of it, any bytes.
func JoinField(key, field string) string {
	out := appendField(make([]byte, 0, len(key)+len(field)+1), []byte(key))
	return string(appendField(append(out, fieldSeparator), []byte(field)))
}

// SplitField returns the key and the field that JoinField joined. A value without a field, which
// no rule makes, is a key with an empty field.
func SplitField(value string) (key, field string) {
	key, field, _ = strings.Cut(value, string([]byte{fieldSeparator}))
	return unescapeField(key), unescapeField(field)
}

// Text is a value as people read it: that of a Field as its key and its field, each quoted where
// the two could not be told apart otherwise.
func (k Kind) Text(value string) string {
	if k != Field {
		return value
	}
	key, field := SplitField(value)
	return fieldWord(key) + " " + fieldWord(field)
}

func fieldWord(s string) string {
	quoted := strconv.Quote(s)
	if s == "" || strings.ContainsAny(s, ` "`) || quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

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
	return JoinField(r.f.Key.Value, r.f.Field.Value), nil
}

// hash is the template of the key of a Field.
func (t *template) hash() *template {
	out := &template{source: t.source}
	for _, p := range t.parts {
		if p.fills() {
			out.add(p)
			continue
		}
		head, _, last := strings.Cut(p.literal, string([]byte{fieldSeparator}))
		out.add(part{literal: unescapeField(head)})
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
