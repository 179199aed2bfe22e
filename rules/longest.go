package rules

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// TooLong is a template whose values may be longer than a sink takes, because of the types of the
// columns that it reads.
type TooLong struct {
	Rule string
	File string
	Line int
	Kind invalidation.Kind
	// Template is the template's source, Reads the columns whose length is not known, or is too
	// large, with their types, each once.
	Template string
	Reads    []string
	Sink     string
	Cap      int
	// Fallback is what happens then.
	Fallback Fallback
}

// TooLong lists templates whose values may be longer than one of their sinks takes, for tables of
// the catalog and rules whose unknown: names nothing for that sink. A template that a purge covers,
// at a sink that takes as much as the stream can carry, is not listed: no key is meant to be so long.
func (s *Set) TooLong(c *Catalog) []TooLong {
	var out []TooLong
	for _, name := range c.Tables() {
		table := c.Table(name)
		for _, id := range s.watching(name) {
			r, _ := s.rules[id].in(name)
			for k := range r.values {
				for _, t := range r.values[k] {
					for _, found := range r.tooLong(t, invalidation.Kind(k), table) {
						if !slices.ContainsFunc(out, found.same) {
							out = append(out, found)
						}
					}
				}
			}
		}
	}
	return out
}

// same reports whether another finding is about the same template and sink: a table of many, or
// a list of the file's vars, makes several of one.
func (t TooLong) same(other TooLong) bool {
	return t.Rule == other.Rule && t.Line == other.Line && t.Kind == other.Kind && t.Template == other.Template && t.Sink == other.Sink
}

func (r *Rule) tooLong(t *template, kind invalidation.Kind, table *CatalogTable) []TooLong {
	length, reads := t.longest(table)
	if len(reads) == 0 {
		return nil
	}
	var out []TooLong
	for _, sink := range t.sinks {
		spec := &r.specs[sink]
		f := t.fallback(kind, spec.Takes)
		switch {
		case r.off(sink) || r.takesAny(sink, &r.unknown):
		case length >= 0 && length <= spec.Caps.Of(kind):
		case !f.Parked() && spec.Caps.Of(kind) == invalidation.MaxValue:
		default:
			out = append(out, TooLong{Rule: r.Name, File: r.File, Line: t.line, Kind: kind, Template: t.source, Reads: reads,
				Sink: spec.Name, Cap: spec.Caps.Of(kind), Fallback: f})
		}
	}
	return out
}

// longest is the length of the longest value in bytes, negative where it has no bound; reads are the
// columns that have no fixed length.
func (t *template) longest(table *CatalogTable) (length int, reads []string) {
	add := func(n int, column CatalogColumn) {
		if name := column.Name + " (" + column.Type + ")"; !column.fixed() && !slices.Contains(reads, name) {
			reads = append(reads, name)
		}
		switch {
		case n < 0:
			length = -1
		case length >= 0:
			length += n
		}
	}
	for i := range t.parts {
		p := &t.parts[i]
		if p.answer {
			continue // unknown: covers each sink
		}
		if digest, is := digestLen(p); is {
			if length >= 0 {
				length += digest
			}
			continue
		}
		if length >= 0 {
			length += len(p.literal)
		}
		for _, c := range p.columns() {
			column, known := table.Column(c)
			if !known {
				continue // which is a finding by itself
			}
			n := column.longest()
			if n > 0 && !column.fixed() && (p.escape || p.expr != nil) {
				n *= len("%00")
			}
			add(n, column)
		}
	}
	return length, reads
}

// columns are those that the part reads.
func (p *part) columns() []string {
	if p.column != "" {
		return []string{p.column}
	}
	var out []string
	if p.expr != nil {
		for _, c := range p.expr.columns {
			out = append(out, c.name)
		}
	}
	return out
}

// digestLen is the length of the text of a part that is a digest.
func digestLen(p *part) (length int, is bool) {
	if p.expr == nil || !strings.HasSuffix(p.expr.source, ")") {
		return 0, false
	}
	function, _, _ := strings.Cut(p.expr.source, "(")
	switch function {
	case "md5":
		return 32, true
	case "sha1":
		return 40, true
	case "sha256":
		return 64, true
	}
	return 0, false
}

var sized = regexp.MustCompile(`^(?:character varying|character|varchar|char|bit|bit varying)\((\d+)\)$`)

// fixedText is longer than the text of any type of a fixed length.
const fixedText = 64

// fixed reports whether the column's text is short whatever it holds.
func (c CatalogColumn) fixed() bool {
	return !c.Toastable && !sized.MatchString(c.Type) || c.OID == oidNumeric
}

// longest is the length of the column's longest text in bytes, negative where it has no bound. A
// character takes four bytes at most.
func (c CatalogColumn) longest() int {
	if m := sized.FindStringSubmatch(c.Type); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return 4 * n
		}
	}
	if c.fixed() {
		return fixedText
	}
	return -1
}
