package strictyaml

import (
	"math"
	"strconv"
	"strings"
)

// Located is a value that knows where in the file it stands; Pos is zero when
// the file does not have it.
type Located[T any] struct {
	Value T
	Pos   Pos
}

type located interface{ locate(Pos) any }

func (l *Located[T]) locate(p Pos) any {
	l.Pos = p
	return &l.Value
}

// Text is a string with the place of each of its characters.
type Text struct {
	Value string
	node  *Node
}

// NewText is a text that stands at a place of a file without being read from it.
func NewText(value string, pos Pos) Text {
	return Text{Value: value, node: &Node{Kind: Scalar, Pos: pos, Text: value, raw: value}}
}

// UnmarshalYAML reads a scalar.
func (t *Text) UnmarshalYAML(n *Node) error {
	d := &decoder{}
	if s, ok := d.text(n); ok {
		*t = Text{Value: s, node: n}
	}
	return d.errs.Err()
}

// String describes the text for a message: as the file has it, quoted and
// shortened, without the values of variables.
func (t Text) String() string {
	if t.node == nil {
		return "nothing"
	}
	return t.node.String()
}

// Given reports whether the file has the value.
func (t Text) Given() bool { return t.node != nil }

// Pos is where the value stands.
func (t Text) Pos() Pos {
	if t.node == nil {
		return Pos{}
	}
	return t.node.Pos
}

// At is where the character at a byte offset stands, as near as can be told.
func (t Text) At(offset int) Pos {
	if t.node == nil {
		return Pos{}
	}
	return t.node.At(offset)
}

// Size is a number of bytes, written as 64MiB, 20GB or plain 4096.
type Size int64

// unit is the number of bytes in a unit, 0 for an unknown one.
func unit(name string) int64 {
	switch name {
	case "", "B":
		return 1
	case "kB", "KB":
		return 1e3
	case "MB":
		return 1e6
	case "GB":
		return 1e9
	case "TB":
		return 1e12
	case "KiB":
		return 1 << 10
	case "MiB":
		return 1 << 20
	case "GiB":
		return 1 << 30
	case "TiB":
		return 1 << 40
	}
	return 0
}

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(n *Node) error {
	const want = "a size; write it like 64MiB, 20GB or 4096"
	d := &decoder{}
	if n.Kind != Scalar {
		d.fail(n, want)
		return d.errs.Err()
	}
	end := len(n.Text) - len(strings.TrimLeft(n.Text, "0123456789"))
	count, err := strconv.ParseInt(n.Text[:end], 10, 64)
	factor := unit(strings.TrimSpace(n.Text[end:]))
	switch {
	case err != nil && end < 19 || factor == 0:
		d.fail(n, want)
	case err != nil || count > math.MaxInt64/factor:
		return n.Errorf("%s is more than 8EiB", n)
	default:
		*s = Size(count * factor)
	}
	return d.errs.Err()
}

// String prints the size with the unit that makes it shortest.
func (s Size) String() string {
	best := strconv.FormatInt(int64(s), 10) + "B"
	for _, u := range []string{"TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"} {
		f := Size(unit(u))
		if text := strconv.FormatInt(int64(s/f), 10) + u; s%f == 0 && len(text) < len(best) {
			best = text
		}
	}
	return best
}

// Map is a mapping that keeps the file's order and places. A null is empty.
type Map[V any] []Entry[V]

// Entry is one key of a Map.
type Entry[V any] struct {
	Key   string
	Pos   Pos // of the key
	Value V
}

// UnmarshalYAML reads a mapping.
func (m *Map[V]) UnmarshalYAML(n *Node) error {
	d := &decoder{}
	if n.Kind != Mapping {
		d.fail(n, "a mapping of names to values")
		return d.errs.Err()
	}
	out := make(Map[V], len(n.Pairs))
	for i, p := range n.Pairs {
		d.keyTrap(n.file, p)
		out[i].Key, out[i].Pos = p.Key, p.Pos
		d.errs.Add(n.file, p.Pos, p.Value.Decode(&out[i].Value))
	}
	*m = out
	return d.errs.Err()
}

// Get finds a key's value.
func (m Map[V]) Get(key string) (V, bool) {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value, true
		}
	}
	var zero V
	return zero, false
}
