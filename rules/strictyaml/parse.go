package strictyaml

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	yaml "github.com/goccy/go-yaml"
)

// Limits of a file. They are far above what people write, and keep a broken
// or hostile file from exhausting memory or the stack.
const (
	MaxBytes = 1 << 20
	MaxDepth = 100
)

// Options changes how a file is read.
type Options struct {
	// Expand, when given, looks up NAME for every ${NAME} inside a scalar
	// value; $${ is a literal ${. Keys and comments are left alone. A name
	// that it does not know is an error.
	Expand func(name string) (string, bool)
}

// Document is one parsed file. It is read-only and safe for concurrent use.
type Document struct {
	file string
	root *Node // nil: the document is empty
	errs Errors
}

// Parse reads a document without expanding anything. See Options.Parse.
func Parse(file string, data []byte) (*Document, error) { return Options{}.Parse(file, data) }

// Parse reads one document; file is the name for messages. It returns Errors
// for what is not one YAML document. Repeated keys, features that the dialect
// lacks and missing variables are reported by Decode, with all it finds.
func (o Options) Parse(file string, data []byte) (doc *Document, err error) {
	b := &builder{file: file, expand: o.Expand}
	src, ok := b.source(data)
	if !ok {
		return nil, b.errs.Err()
	}
	// The parser underneath is sound on all that its fuzzing found; a panic in
	// it must still be an error about this file and not the end of a daemon
	// that is told to reload.
	defer func() {
		if r := recover(); r != nil {
			doc, err = nil, Errors{{File: file, Msg: fmt.Sprintf("not readable as YAML (%v)", r)}}
		}
	}()
	tokens := lexer.Tokenize(src)
	if !b.shallow(tokens) {
		return nil, b.errs.Err()
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Errors{b.syntax(err, src)}
	}
	var bodies []*ast.DocumentNode
	for _, d := range f.Docs {
		if _, ok := d.Body.(*ast.DirectiveNode); ok {
			b.errs.Addf(file, b.pos(d.Body.GetToken()), "%%-directives are not supported; remove the line")
			return nil, b.errs.Err()
		}
		bodies = append(bodies, d)
	}
	if len(bodies) > 1 {
		at := Pos{Line: 1, Column: 1}
		if start := bodies[1].Start; start != nil {
			at = b.pos(start)
		}
		b.errs.Addf(file, at, "a second document begins here; write one document per file")
		return nil, b.errs.Err()
	}
	doc = &Document{file: file}
	if len(bodies) == 1 && bodies[0].Body != nil {
		doc.root = b.node(bodies[0].Body)
	}
	doc.errs = b.errs
	return doc, nil
}

// Root is the document's value, nil when the document is empty.
func (d *Document) Root() *Node { return d.root }

// source checks the bytes and evens out line ends.
func (b *builder) source(data []byte) (string, bool) {
	if len(data) > MaxBytes {
		b.errs.Addf(b.file, Pos{}, "the file is larger than %d MiB", MaxBytes>>20)
		return "", false
	}
	src := strings.TrimPrefix(string(data), "\ufeff")
	for i, line := 0, 1; i < len(src); {
		r, size := utf8.DecodeRuneInString(src[i:])
		if r == utf8.RuneError && size == 1 || r == 0 {
			b.errs.Addf(b.file, Pos{Line: line, Column: 1}, "the line holds bytes that are not UTF-8 text")
			return "", false
		}
		if r == '\n' {
			line++
		}
		i += size
	}
	return strings.ReplaceAll(src, "\r\n", "\n"), true
}

// shallow refuses nesting that would exhaust the parser's stack, which no
// recover could catch.
func (b *builder) shallow(tokens token.Tokens) bool {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType, token.MappingValueType:
			dashes++
		}
		// Block nesting over lines costs a column per level.
		if flow > MaxDepth || (flow == 0 && dashes > MaxDepth) || (flow == 0 && t.Position.IndentNum > 20*MaxDepth) {
			b.errs.Addf(b.file, b.pos(t), "nested more than %d deep", MaxDepth)
			return false
		}
	}
	return true
}

func (b *builder) syntax(err error, src string) *Error {
	e := &Error{File: b.file, Msg: "not valid YAML"}
	var located yaml.Error
	if !errors.As(err, &located) {
		return e
	}
	e.Msg = "not valid YAML: " + located.GetMessage()
	t := located.GetToken()
	if t == nil || t.Position == nil {
		return e
	}
	e.Line, e.Column, e.Text = t.Position.Line, t.Position.Column, short(t.Value)
	// The most frequent slip in rules: an unquoted template inside [ ].
	lines := strings.Split(src, "\n")
	if e.Line >= 1 && e.Line <= len(lines) && strings.Contains(located.GetMessage(), "must be specified") &&
		strings.Contains(lines[e.Line-1], "{") {
		e.Msg += `; inside [ ] and { } a value with braces must be quoted: ["product:{id}"]`
	}
	return e
}
