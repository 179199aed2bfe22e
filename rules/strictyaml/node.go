package strictyaml

import (
	"fmt"
	"strings"
)

// Kind is the shape of a node.
type Kind uint8

// The shapes.
const (
	Null Kind = iota // nothing was written, or null or ~
	Scalar
	Sequence
	Mapping
)

// Node is one value of a document. Nodes are read-only after Parse.
type Node struct {
	Kind Kind
	// Pos is the first character of the value; of a mapping, its first key or
	// its opening brace.
	Pos Pos
	// Key is the place of the key that the value belongs to, zero in a list.
	Key Pos
	// Text is a scalar's value after expansion.
	Text string
	// Quoted reports that a scalar was quoted or a block, so that it is a
	// string whatever it looks like.
	Quoted bool
	// Expanded reports that a variable was replaced in Text.
	Expanded bool
	// Items are a sequence's values.
	Items []*Node
	// Pairs are a mapping's keys and values as written; of a repeated key the
	// first.
	Pairs []Pair

	file string
	raw  string // Text before expansion, for messages
	bad  bool   // Parse has reported it: Decode passes over it
	flat bool   // Text stands in the file character by character from Pos on
}

// Pair is one key of a mapping and its value.
type Pair struct {
	Key   string
	Pos   Pos
	Value *Node

	plain bool // the key was written without quotes
}

// File is the name that Parse was given.
func (n *Node) File() string { return n.file }

// Errorf makes a finding at the node. Do not print Text: it may hold an
// expanded secret; String is safe.
func (n *Node) Errorf(format string, args ...any) *Error {
	return &Error{File: n.file, Line: n.Pos.Line, Column: n.Pos.Column, Text: short(n.raw), Msg: fmt.Sprintf(format, args...)}
}

// String describes the node for a message: the text as the file has it, or the shape.
func (n *Node) String() string {
	switch n.Kind {
	case Scalar:
		return quote(n.raw)
	case Sequence:
		return "a list"
	case Mapping:
		return "a mapping"
	}
	return "nothing"
}

// At is the place of the character at the byte offset of Text, as near as it
// can be told: in a scalar of several lines or with escapes it is Pos.
func (n *Node) At(offset int) Pos {
	if !n.flat || offset < 0 || offset > len(n.Text) {
		return n.Pos
	}
	p := n.Pos
	if n.Quoted {
		p.Column++
	}
	p.Column += len([]rune(n.Text[:offset]))
	return p
}

func isTrap(text string) bool {
	switch strings.ToLower(text) {
	case "yes", "no", "on", "off":
		return true
	}
	return false
}
