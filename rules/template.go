package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// image says which row a column's value is taken from.
type image uint8

const (
	eachImage  image = iota // the old and the new row in turn
	oldImage                // {old.x}
	newImage                // {new.x}
	bothImages              // changed(x): compares them
)

// template is a value's text with columns and expressions in it, the compiled
// form of one list entry under keys: or tags:, or of one choice of its vars.
type template struct {
	source string
	line   int
	column int
	parts  []part
	// limit bounds the values that lists make of it for one image.
	limit int
	// only is the sink that to: adds it for, -1 for a template of all sinks;
	// sinks are those that it goes to.
	only  int
	sinks []int
	// lookup names the lookup whose answer the template waits for.
	lookup string
	// quoted are the texts in quotes between braces, which may be meant as columns.
	quoted []string
}

// part is a literal, a column where column is set, or an expression: first as
// source at the byte offset at, then compiled.
type part struct {
	literal string
	column  string
	image   image
	source  string
	at      int
	expr    *expression
	// lone is set where a column is named without a row: it may be a capture of
	// the table's name, and then capture is set instead of column.
	lone    bool
	capture string
	// escape is set where the text is to be percent-encoded.
	escape bool
	// answer is set where the column, or the columns of the expression, are those
	// of a lookup's answer.
	answer bool
}

// fills reports whether the part's text comes from the row, or from the table's
// name.
func (p *part) fills() bool { return p.column != "" || p.source != "" || p.capture != "" }

// parseTemplate reads a template. On an error at is the byte offset in text
// that it is about.
func parseTemplate(text string) (t *template, at int, err error) {
	t = &template{source: text, limit: MaxValues, only: -1}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '}':
			return nil, i, errors.New("a } without its {; a literal one is written {'}'}")
		case c == '{' && i+1 < len(text) && text[i+1] == '{':
			return nil, i, errors.New("{{ is not a literal brace; write {'{'}, so that {'{'}{id}{'}'} gives {42}")
		case c == '{':
			end := closing(text, i+1)
			if end < 0 {
				return nil, i, errors.New("a { without its }; a literal one is written {'{'}")
			}
			p, err := parseBraces(text[i+1 : end])
			if err != nil {
				return nil, i, err
			}
			p.at += i + 1
			if !p.fills() {
				t.quoted = append(t.quoted, p.literal)
			}
			t.add(p)
			i = end + 1
		default:
			n := strings.IndexAny(text[i:], "{}")
			if n < 0 {
				n = len(text) - i
			}
			t.add(part{literal: text[i : i+n]})
			i += n
		}
	}
	return t, 0, nil
}

// add appends a part; neighbouring literals become one.
func (t *template) add(p part) {
	if n := len(t.parts); n > 0 && !p.fills() && !t.parts[n-1].fills() {
		t.parts[n-1].literal += p.literal
		return
	}
	if p.fills() || p.literal != "" {
		t.parts = append(t.parts, p)
	}
}

// closing finds the } that ends an expression, past quoted strings and nested braces.
func closing(text string, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'' || c == '"':
			i = endQuote(text, i)
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}':
			return i
		}
	}
	return -1
}

// endQuote finds the quote that ends the one at i, past escaped characters, or
// the end of the text.
func endQuote(text string, i int) int {
	quote := text[i]
	for i++; i < len(text) && text[i] != quote; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}

const (
	identifier = `[A-Za-z_][A-Za-z0-9_]*`
	quoted     = `"[^"\\]*"|'[^'\\]*'`
)

// parseBraces reads what stands between { and }: a quoted literal, a column, or
// an expression that is still to be compiled.
func parseBraces(source string) (part, error) {
	expr := strings.TrimSpace(source)
	if expr == "" {
		return part{}, errors.New("{} names no column; a literal brace is written {'{'}")
	}
	if m := regexp.MustCompile(`^(?:` + quoted + `)$`).FindString(expr); m != "" {
		return part{literal: m[1 : len(m)-1]}, nil
	}
	m := regexp.MustCompile(`^(?:(row|old|new)\.)?(` + identifier + `)$|^(row|old|new)\[(` + quoted + `)\]$`).FindStringSubmatch(expr)
	if m == nil {
		return part{source: expr, at: strings.Index(source, expr)}, nil
	}
	scope, column := m[1]+m[3], m[2]
	if m[4] != "" {
		column = m[4][1 : len(m[4])-1]
	}
	if column == "" {
		return part{}, fmt.Errorf("{%s} names no column", expr)
	}
	if scope == "" && isVariable(column) {
		return part{}, fmt.Errorf("{%s} is not a column but a word of the rule language; a column of that name is written {row[%q]}", expr, column)
	}
	return part{column: column, lone: scope == "", image: map[string]image{"": eachImage, "row": eachImage, "old": oldImage, "new": newImage}[scope]}, nil
}

// isVariable reports whether a lone word has a meaning of its own in
// conditions and templates.
func isVariable(word string) bool {
	switch word {
	case "row", "old", "new", "op", "vars", "true", "false", "null", "in":
		return true
	}
	return false
}

// fixed is the value of a template that reads nothing from a row.
func (t *template) fixed() (string, bool) {
	switch len(t.parts) {
	case 0:
		return "", true
	case 1:
		return t.parts[0].literal, !t.parts[0].fills()
	}
	return "", false
}

// pattern is the glob that all values of the template match: literal parts
// escaped as Valkey's glob reads them, a * for what comes from a row. literal is
// false when it would match everything.
func (t *template) pattern() (glob string, literal bool) {
	var sb strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if p.fills() {
			sb.WriteByte('*')
			continue
		}
		literal = true
		for i := range len(p.literal) {
			if strings.IndexByte(`*?[]\`, p.literal[i]) >= 0 {
				sb.WriteByte('\\')
			}
			sb.WriteByte(p.literal[i])
		}
	}
	return sb.String(), literal
}
