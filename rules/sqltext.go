package rules

import (
	"errors"
	"strings"
)

// cutSQL cuts a statement at its parameters $1, $2, ...: texts has one entry more
// than params. Strings, quoted names and comments are passed over, as PostgreSQL's
// lexer does under standard_conforming_strings (manual, "Lexical Structure"). A
// semicolon at the end is left out; more than one statement is an error.
func cutSQL(sql string) (texts []string, params []int, err error) {
	from, end := 0, len(sql)
	for i := 0; i < len(sql); {
		next, what := sqlToken(sql, i)
		switch {
		case next < 0:
			return nil, nil, errors.New("a quote or comment in it does not end")
		case what == sqlBlank:
		case end < len(sql):
			return nil, nil, errors.New("it has several statements; write one SELECT")
		case what == sqlParam:
			n := 0
			for _, c := range sql[i+1 : next] {
				n = min(10*n+int(c-'0'), 1<<16)
			}
			if n == 0 {
				return nil, nil, errors.New("parameters count from $1")
			}
			texts, params = append(texts, sql[from:i]), append(params, n)
			from = next
		case what == sqlEnd:
			end = i
		}
		i = next
	}
	return append(texts, sql[from:end]), params, nil
}

// sqlKind is what cutSQL tells apart.
type sqlKind uint8

const (
	sqlOther sqlKind = iota
	sqlBlank         // white space and comments
	sqlParam
	sqlEnd
)

// sqlToken finds the end of the token at i; it is -1 where the token has none.
func sqlToken(sql string, i int) (next int, what sqlKind) {
	rest := sql[i:]
	switch c := sql[i]; {
	case strings.IndexByte(" \t\r\n\f\v", c) >= 0:
		return i + 1, sqlBlank
	case strings.HasPrefix(rest, "--"):
		if n := strings.IndexAny(rest, "\r\n"); n >= 0 {
			return i + n, sqlBlank
		}
		return len(sql), sqlBlank
	case strings.HasPrefix(rest, "/*"):
		return endComment(sql, i), sqlBlank
	case c == ';':
		return i + 1, sqlEnd
	case c == '\'' || c == '"':
		return closed(sql, i+1, string(c)), sqlOther
	case c == '$' && i+1 < len(sql) && digit(sql[i+1]):
		return span(sql, i+1, digit), sqlParam
	case c == '$':
		// A dollar quote: $$ or $tag$, up to the same again.
		tag := span(sql, i+1, func(c byte) bool { return c != '$' && nameByte(c) })
		if tag < len(sql) && sql[tag] == '$' {
			return closed(sql, tag+1, sql[i:tag+1]), sqlOther
		}
		return i + 1, sqlOther
	case (c == 'e' || c == 'E') && strings.HasPrefix(rest[1:], "'"):
		return endEscaped(sql, i+2), sqlOther
	case nameByte(c):
		return span(sql, i+1, nameByte), sqlOther // a $ in a name is no parameter
	}
	return i + 1, sqlOther
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// nameByte reports whether c may stand within a name, or a number.
func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || digit(c) || c == '_' || c == '$' || c >= 0x80
}

func span(s string, i int, in func(byte) bool) int {
	for i < len(s) && in(s[i]) {
		i++
	}
	return i
}

// closed is the place behind the next end, or -1. A doubled quote is an end and
// a new beginning, which has the same effect.
func closed(s string, i int, end string) int {
	n := strings.Index(s[i:], end)
	if n < 0 {
		return -1
	}
	return i + n + len(end)
}

func endEscaped(s string, i int) int {
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			return i + 1
		}
	}
	return -1
}

// endComment passes over a comment; comments nest.
func endComment(s string, i int) int {
	for depth := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i++
		case strings.HasPrefix(s[i:], "*/"):
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
