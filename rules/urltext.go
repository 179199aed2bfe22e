package rules

import (
	"errors"
	"fmt"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// unreserved reports whether RFC 3986 (section 2.3) lets the byte represent
// itself everywhere.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// appendEscaped percent-encodes every byte that is not unreserved.
func appendEscaped(dst, text []byte) []byte {
	for _, c := range text {
		if unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// urlPath escapes a text for a URL's path and keeps its slashes.
func urlPath(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] == '/' {
			out = append(out, '/')
		} else {
			out = appendEscaped(out, []byte{s[i]})
		}
	}
	return string(out)
}

// urlForms are the functions whose result stands in a URL as it is: in the path, or in the query.
func urlForms() []string { return []string{"urlpath", "rawpath", "rawquery", "formquery"} }

// rawPath takes a path, or a part of one, as it stands in a URL, percent-encoded already; without the slash
// that it begins with, since a template has that.
func rawPath(s string) (string, error) {
	if at := strings.IndexAny(s, "?#"); at >= 0 {
		return "", fmt.Errorf("rawpath: the text has a %c, which ends a path", s[at])
	}
	return strings.TrimPrefix(s, "/"), encoded("rawpath", s)
}

// rawQuery takes a query, or a part of one, as it stands in a URL, percent-encoded already; without the ?
// that it begins with, since a template has that.
func rawQuery(s string) (string, error) {
	if strings.Contains(s, "#") {
		return "", errors.New("rawquery: the text has a #, which ends a query")
	}
	return strings.TrimPrefix(s, "?"), encoded("rawquery", s)
}

// encoded refuses what no browser sends in a URL.
func encoded(function, s string) error {
	if noURL.MatchString(s) {
		return errors.New(function + ": the text is not percent-encoded; urlpath() and formquery() do that")
	}
	return nil
}

// formQuery encodes a text as a form does in a query (WHATWG URL, application/x-www-form-urlencoded): a space
// becomes +, and all but letters, digits and *-._ is percent-encoded.
func formQuery(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ':
			out = append(out, '+')
		case c == '*' || c != '~' && unreserved(c):
			out = append(out, c)
		default:
			out = append(out, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(out)
}
