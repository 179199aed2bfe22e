package rules

import (
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Bounds of a lookup as written, and what it has where nothing is written.
const (
	// MaxLookupRows is the highest limit; MaxLookupTimeout the longest timeout.
	MaxLookupRows        = MaxValues
	MaxLookupTimeout     = 30 * time.Second
	minLookupTimeout     = 10 * time.Millisecond
	defaultLookupRows    = 500
	defaultLookupTimeout = time.Second
	// maxArgument bounds one argument in bytes; a longer one is unknown.
	maxArgument = 2048
)

// Lookup is a question that a rule puts to the database: one SELECT, whose
// parameters come from the row. It is immutable. Its values are known once
// the database has answered; see Pending.
type Lookup struct {
	// Name is how templates call it; Rule, File and Line say whose it is.
	Name string
	Rule string
	File string
	Line int
	// SQL is the statement without a semicolon at its end.
	SQL string
	// Limit is how many rows an answer may have; one with more counts as no answer.
	Limit   int
	Timeout time.Duration
	// Columns are those of the answer that templates name, each once, in the
	// order of their first use.
	Columns []string

	text   strictyaml.Text
	texts  []string
	params []int
	args   []*template
}

// Params is how many parameters the statement has.
func (l *Lookup) Params() int { return len(l.args) }

// With is the statement with its parameters, counted from 1, replaced.
func (l *Lookup) With(param func(n int) string) string {
	var sb strings.Builder
	for i, text := range l.texts {
		if i > 0 {
			sb.WriteString(param(l.params[i-1]))
		}
		sb.WriteString(text)
	}
	return sb.String()
}

// At is where the character at a byte offset of SQL stands in File.
func (l *Lookup) At(offset int) strictyaml.Pos { return l.text.At(offset) }

// Lookups lists the lookups of all rules, in the order of the files.
func (s *Set) Lookups() []*Lookup {
	var out []*Lookup
	for _, r := range s.rules {
		out = append(out, r.lookups...)
	}
	return out
}

// Query is a lookup with its arguments, in the text form that PostgreSQL reads.
type Query struct {
	Lookup *Lookup
	Args   []string
}

// Answer is what a Query came to. It may be read by several Pending.
type Answer struct {
	// Shape has the columns of Rows, and is shared by all answers of a statement.
	Shape *cdc.Relation
	// Rows are in PostgreSQL's text form, as the stream carries rows.
	Rows []cdc.Tuple
	// Err says why there is no answer: the values are unknown then. It holds
	// neither arguments nor rows.
	Err error
}

func (r *Rule) lookup(name string) *Lookup {
	for _, l := range r.lookups {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (l *Lookup) reads(column string) {
	for _, c := range l.Columns {
		if c == column {
			return
		}
	}
	l.Columns = append(l.Columns, column)
}
