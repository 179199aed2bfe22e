package strictyaml

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
}

// Error prints file:line:col: msg.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return e.File + ":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column) + ": " + e.Msg
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
// in which they were first met, then line and column.
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
	return sorted
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
