package standbynames

import (
	"fmt"
	"strconv"
	"strings"
)

// Match reports whether the setting can name a connection with the given application_name, as
// the server knows it: through that name in any case, or through `*`. An empty setting names
// nothing. A value that the server would refuse is an error.
func Match(setting, applicationName string) (bool, error) {
	names, err := parse(setting)
	if err != nil {
		return false, fmt.Errorf("synchronous_standby_names %q: %w", setting, err)
	}
	for _, n := range names {
		if n == "*" || lower(n) == lower(applicationName) {
			return true, nil
		}
	}
	return false, nil
}

// lower folds ASCII letters only: the server replaces all other characters of an
// application_name.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// kind of a token; punctuation is its own kind.
const (
	end    = 0
	name   = 'n'
	number = '1'
	method = 'm' // ANY or FIRST
)

type token struct {
	kind byte
	text string
}

// parse returns the names of the list. The grammar is
//
//	list | N '(' list ')' | ANY N '(' list ')' | FIRST N '(' list ')'
//
// where list is names or numbers with commas in between, and N is greater than zero.
func parse(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	tokens, err := scan(s)
	if err != nil {
		return nil, err
	}
	take := func(kind byte) bool {
		if tokens[0].kind != kind {
			return false
		}
		tokens = tokens[1:]
		return true
	}
	closed := true
	if take(method) || tokens[0].kind == number && tokens[1].kind == '(' {
		count := tokens[0]
		if !take(number) || !take('(') {
			return nil, unexpected(tokens[0])
		}
		if !positive(count.text) {
			return nil, fmt.Errorf("the number of synchronous standbys (%s) must be greater than zero", count.text)
		}
		closed = false
	}
	var names []string
	for {
		t := tokens[0]
		if !take(name) && !take(number) {
			return nil, unexpected(t)
		}
		names = append(names, t.text)
		if !take(',') {
			break
		}
	}
	if !closed && !take(')') || tokens[0].kind != end {
		return nil, unexpected(tokens[0])
	}
	return names, nil
}

// positive reads a number as C's atoi does on the platforms of PostgreSQL: what is too large
// for 64 bits is the largest one, and then the lower 32 bits count.
func positive(digits string) bool {
	n, _ := strconv.ParseInt(digits, 10, 64)
	return int32(n) > 0
}

func unexpected(t token) error {
	if t.kind == end {
		return fmt.Errorf("syntax error at end of input")
	}
	return fmt.Errorf("syntax error at or near %q", t.text)
}

// scan cuts the setting into tokens. The last one is of kind end.
func scan(s string) ([]token, error) {
	var out []token
	for len(s) > 0 {
		n := 1
		switch c := s[0]; {
		case strings.IndexByte(" \t\n\r\f\v", c) >= 0:
		case c == '"':
			text, rest, err := quoted(s[1:])
			if err != nil {
				return nil, err
			}
			out, s, n = append(out, token{name, text}), rest, 0
		case begins(c):
			for n < len(s) && (begins(s[n]) || digit(s[n]) || s[n] == '$') {
				n++
			}
			kind := byte(name)
			if word := lower(s[:n]); word == "any" || word == "first" {
				kind = method
			}
			out = append(out, token{kind, s[:n]})
		case digit(c):
			for n < len(s) && digit(s[n]) {
				n++
			}
			out = append(out, token{number, s[:n]})
		case c == '*':
			out = append(out, token{name, "*"})
		case c == ',' || c == '(' || c == ')':
			out = append(out, token{c, s[:1]})
		default:
			return nil, unexpected(token{c, s[:1]})
		}
		s = s[n:]
	}
	return append(out, token{kind: end}), nil
}

// quoted reads a delimited name up to its closing quote, in which "" is a quote.
func quoted(s string) (text, rest string, err error) {
	var b strings.Builder
	for {
		part, after, found := strings.Cut(s, `"`)
		if !found {
			return "", "", fmt.Errorf("unterminated quoted identifier")
		}
		b.WriteString(part)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, nil
		}
		b.WriteByte('"')
		s = after[1:]
	}
}

func begins(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
