package rulestest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Type OIDs as in PostgreSQL's pg_type.dat; they are the same on every server.
const (
	oidBool    = 16
	oidInt8    = 20
	oidText    = 25
	oidFloat8  = 701
	oidNumeric = 1700
	oidJSONB   = 3802
)

// typeName names a guessed type for a message.
func typeName(oid uint32) string {
	switch oid {
	case oidBool:
		return "a boolean"
	case oidText:
		return "a text"
	case oidJSONB:
		return "a mapping"
	}
	if isArray(oid) {
		return "a list"
	}
	return "a number"
}

// isArray reports a guess that is an array.
func isArray(oid uint32) bool { return oid == oidAnyArray || cdc.BuiltinType(oid).Elem != nil }

// elementOf is the type of an array's elements, 0 where nothing says it.
func elementOf(oid uint32) uint32 {
	if t := cdc.BuiltinType(oid); t.Elem != nil {
		return t.Elem.OID
	}
	return 0
}

// datum is a value and the type that its spelling suggests; 0 for NULL.
type datum struct {
	value cdc.Value
	oid   uint32
}

var (
	wholeForm   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	decimalForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)\.[0-9]+$`)
	floatForm   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?[eE][+-]?[0-9]+$`)
	// Readers of YAML disagree about what number these are.
	doubtful = regexp.MustCompile(`^([+-]?0[0-9_]+|0[xo][0-9a-fA-F_]+|\+[0-9]+)$`)
)

func numberType(text string) uint32 {
	switch {
	case wholeForm.MatchString(text):
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return oidNumeric
		}
		return oidInt8
	case decimalForm.MatchString(text):
		return oidNumeric
	case floatForm.MatchString(text):
		return oidFloat8
	}
	return 0
}

// datum turns a value of the file into PostgreSQL's text.
func (l *loader) datum(n *strictyaml.Node) datum {
	text := func(s string, oid uint32) datum {
		return datum{cdc.Value{Kind: cdc.Text, Data: []byte(s)}, oid}
	}
	switch n.Kind {
	case strictyaml.Null:
		return datum{value: cdc.Value{Kind: cdc.Null}}
	case strictyaml.Sequence:
		if elem, ok := l.elements(n); ok {
			s, _ := l.array(n, typ{elem: &typ{oid: elem}, delimiter: ','}) // it holds nothing that an array cannot
			return text(s, arrayOf(elem))
		}
		fallthrough
	case strictyaml.Mapping:
		var b bytes.Buffer
		l.json(&b, n)
		return text(b.String(), oidJSONB)
	}
	if isBool(n) {
		return text(strings.ToLower(n.Text[:1]), oidBool)
	}
	if oid := numberType(n.Text); oid != 0 && !n.Quoted {
		return text(n.Text, oid)
	}
	s := l.text(n)
	if !n.Quoted && doubtful.MatchString(n.Text) {
		return text(s, 0) // refused; of no type, so that nothing follows from it
	}
	return text(s, oidText)
}

// oidAnyArray is the guess for a list whose elements say nothing of their type.
const oidAnyArray = 2277

func arrayOf(elem uint32) uint32 {
	if elem == 0 {
		return oidAnyArray
	}
	return cdc.BuiltinArray(elem)
}

// elements guesses the type of a list's elements, of nested lists too. A list with a mapping in it,
// or with values of several types, is no array but JSON.
func (l *loader) elements(n *strictyaml.Node) (elem uint32, ok bool) {
	for _, item := range n.Items {
		var oid uint32
		switch item.Kind {
		case strictyaml.Mapping:
			return 0, false
		case strictyaml.Sequence:
			if oid, ok = l.elements(item); !ok {
				return 0, false
			}
		default:
			oid = (&loader{file: l.file}).datum(item).oid
		}
		if elem, ok = common(elem, oid); !ok {
			return 0, false
		}
	}
	return elem, true
}

func isBool(n *strictyaml.Node) bool {
	return !n.Quoted && slices.Contains([]string{"true", "True", "TRUE", "false", "False", "FALSE"}, n.Text)
}

func (l *loader) text(n *strictyaml.Node) string {
	if !n.Quoted && doubtful.MatchString(n.Text) {
		l.errs = append(l.errs, n.Errorf("%s is a number to some readers of YAML and a text to others; quote it, or write the number without sign and zeros before it", n))
	}
	var s string
	l.errs.Add(l.file, n.Pos, n.Decode(&s))
	return s
}

// json writes a value as jsonb prints it: keys by length, then by bytes.
func (l *loader) json(b *bytes.Buffer, n *strictyaml.Node) {
	switch {
	case n.Kind == strictyaml.Null:
		b.WriteString("null")
	case n.Kind == strictyaml.Sequence:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteString(", ")
			}
			l.json(b, item)
		}
		b.WriteByte(']')
	case n.Kind == strictyaml.Mapping:
		pairs := slices.Clone(n.Pairs)
		slices.SortFunc(pairs, func(x, y strictyaml.Pair) int {
			return cmp.Or(len(x.Key)-len(y.Key), cmp.Compare(x.Key, y.Key))
		})
		b.WriteByte('{')
		for i, p := range pairs {
			if i > 0 {
				b.WriteString(", ")
			}
			jsonText(b, p.Key)
			b.WriteString(": ")
			l.json(b, p.Value)
		}
		b.WriteByte('}')
	case isBool(n):
		b.WriteString(strings.ToLower(n.Text))
	case !n.Quoted && numberType(n.Text) != 0:
		b.WriteString(n.Text)
	default:
		jsonText(b, l.text(n))
	}
}

func jsonText(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text can always be encoded
	b.Truncate(b.Len() - 1)
}

// whole reports whether the type is one of whole numbers.
func whole(oid uint32) bool { return oid == oidInt8 || oid == oidInt4 || oid == oidInt2 }
