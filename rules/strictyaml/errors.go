package strictyaml

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/cdc/display"
)

// Pos is a place in a file. Line and Column count from 1, columns in
// characters; the zero Pos means that the value was not in the file.
type Pos struct {
	Line, Column int
}

// IsZero reports whether the position is unset: the file did not have the value.
func (p Pos) IsZero() bool { return p == Pos{} }

// Error is one finding at one place.
type Error struct {
	File         string
	Line, Column int
	// Text is the offending text as the file has it, shortened; never the
	// text of an expanded variable. It may be empty.
	Text string
	// Msg says what is wrong and what to do.
	Msg string
	// Same is the part of Msg that findings of one cause share, without the name of a rule
	// for example. Err makes one finding of those with the same text. Empty: of none.
	Same string
	// More are the other places of a finding that was made of several.
	More []Place
}

// Place is a line of a file.
type Place struct {
	File string
	Line int
}

// shownPlaces bounds the places that a finding lists.
const shownPlaces = 5

// Error prints file:line:col: msg, and where else the same is wrong.
func (e *Error) Error() string {
	more := ""
	if n := len(e.More); n > 0 {
		more = fmt.Sprintf("; and %d more places: ", n)
		if n == 1 {
			more = "; and 1 more place: "
		}
		for i, p := range e.More[:min(n, shownPlaces)] {
			if i > 0 {
				more += ", "
			}
			more += display.Name(p.File) + ":" + strconv.Itoa(p.Line)
		}
		if n > shownPlaces {
			more += ", ..."
		}
	}
	if e.Line == 0 {
		return display.Name(e.File) + ": " + e.Msg + more
	}
	return display.Name(e.File) + ":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column) + ": " + e.Msg + more
}

// Errors are the findings of one or more files, one per line when printed.
type Errors []*Error

// Error prints one finding per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single findings.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i := range e {
		out[i] = e[i]
	}
	return out
}

// Err is nil without findings, else the findings by place: files in the order
// in which they were first met, then line and column. Those with the same cause are
// one, at the first of their places.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	order := map[string]int{}
	for _, x := range e {
		if _, ok := order[x.File]; !ok {
			order[x.File] = len(order)
		}
	}
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		if d := order[a.File] - order[b.File]; d != 0 {
			return d
		}
		if d := a.Line - b.Line; d != 0 {
			return d
		}
		return a.Column - b.Column
	})
	return grouped(sorted)
}

func grouped(sorted Errors) Errors {
	var out Errors
	first := map[string]*Error{}
	for _, e := range sorted {
		if f := first[e.Same]; f != nil {
			f.More = append(append(f.More, Place{e.File, e.Line}), e.More...)
			continue
		}
		one := *e
		one.More = slices.Clone(e.More)
		if e.Same != "" {
			first[e.Same] = &one
		}
		out = append(out, &one)
	}
	return out
}

// Add appends err: findings as they are, anything else at the place given.
func (e *Errors) Add(file string, at Pos, err error) {
	var many Errors
	var one *Error
	switch {
	case err == nil:
	case errors.As(err, &many):
		*e = append(*e, many...)
	case errors.As(err, &one):
		*e = append(*e, one)
	default:
		e.Addf(file, at, "%v", err)
	}
}

// Addf appends a finding.
func (e *Errors) Addf(file string, at Pos, format string, args ...any) {
	*e = append(*e, &Error{File: file, Line: at.Line, Column: at.Column, Msg: fmt.Sprintf(format, args...)})
}

// quote prints text for a message: quoted, on one line, shortened.
func quote(text string) string { return strconv.Quote(short(text)) }

func short(text string) string {
	const limit = 60
	runes := 0
	for i := range text {
		if runes == limit {
			return text[:i] + "..."
		}
		runes++
	}
	return text
}
