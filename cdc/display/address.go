package display

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Hidden is printed instead of an address that cannot be read for certain.
const Hidden = "(address not shown, it may hold a secret)"

var (
	schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]{0,20}$`)
	hostForm   = regexp.MustCompile(`^([\p{L}\p{N}_.-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\])?(:[0-9]{1,5})?$`)
	// keyword is one parameter of a connection string of libpq.
	keyword = regexp.MustCompile(`^\s*([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?:\s+|$)`)
)

// Address returns what may be printed of an address: a URL, several with commas between them, host and port, or a connection string
// of PostgreSQL in either form. It is Hidden for everything else.
func Address(address string) string {
	if text, ok := keywords(address); ok {
		return text
	}
	scheme := ""
	var shown []string
	for i, part := range strings.Split(address, ",") {
		own, rest, ok := strings.Cut(part, "://")
		switch {
		case ok && schemeForm.MatchString(own):
			scheme = own + "://"
		case ok, i > 0 && strings.Contains(part, "@"): // a comma within a password looks like this
			return Hidden
		default:
			rest = part
		}
		authority, tail := rest, ""
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			authority, tail = rest[:end], rest[end:]
		}
		if strings.Contains(tail, "@") {
			return Hidden // a password with one of these characters looks like this
		}
		host := authority[strings.LastIndexByte(authority, '@')+1:]
		if scheme == "unix://" {
			path, _, _ := strings.Cut(tail, "?")
			host += strings.TrimSuffix(path, "#")
			if !strings.HasPrefix(host, "/") || strings.ContainsAny(host, ":#") {
				return Hidden
			}
		} else if !hostForm.MatchString(host) || scheme == "" && !strings.Contains(host, ":") {
			return Hidden // a word alone may be a token
		}
		shown = append(shown, scheme+strings.TrimSpace(host))
	}
	return strings.Join(shown, ",")
}

// keywords prints a connection string of the form host=... port=...; ok is false if the address has another form.
func keywords(dsn string) (text string, ok bool) {
	values := map[string]string{}
	for rest := dsn; strings.TrimSpace(rest) != ""; {
		m := keyword.FindStringSubmatch(rest)
		if m == nil {
			return Hidden, len(values) > 0
		}
		values[m[1]] = strings.Trim(m[2], "'")
		rest = rest[len(m[0]):]
	}
	if len(values) == 0 {
		return "", false
	}
	host := values["host"]
	if host == "" {
		host = values["hostaddr"]
	}
	if port := values["port"]; port != "" {
		host += ":" + port
	}
	if name, _, _ := strings.Cut(host, ":"); strings.HasPrefix(name, "/") {
		return host, !strings.Contains(host, "@")
	}
	if host == "" || !hostForm.MatchString(host) {
		return Hidden, true
	}
	return host, true
}

// Misread reports that an address is probably not what was meant: it has an @ behind the /, ? or # that ends its host,
// as it has if one of these characters stands in a password without percent-encoding.
func Misread(address string) bool {
	for part := range strings.SplitSeq(address, ",") {
		_, rest, ok := strings.Cut(part, "://")
		if !ok {
			rest = part
		}
		if end := strings.IndexAny(rest, "/?#"); end >= 0 && strings.Contains(rest[end:], "@") {
			return true
		}
	}
	return false
}

// redacted is an error with another text.
type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }
func (r *redacted) Unwrap() error { return r.err }

// Redact returns an error that wraps err and whose text shows the addresses as Address does. It finds those given, and
// the URLs of all errors of package net/url within err.
func Redact(err error, addresses ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, e := range quoting(err, nil) {
		shown := fmt.Sprintf("%s %s: %s", e.Op, Address(e.URL), e.Err)
		if e.Op == "parse" {
			shown = "not a valid address " + Hidden
		}
		text = strings.ReplaceAll(text, e.Error(), shown)
		addresses = append(slices.Clip(addresses), e.URL)
	}
	for _, a := range addresses {
		text = withoutSecrets(text, a)
	}
	if text == err.Error() {
		return err
	}
	return &redacted{text, err}
}

// quoting finds the errors that quote a URL.
func quoting(err error, found []*url.Error) []*url.Error {
	if e, ok := err.(*url.Error); ok {
		found = append(found, e)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			found = quoting(inner, found)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = quoting(inner, found)
		}
	}
	return found
}

// minSecret is how long a secret has to be, in bytes, to be looked for outside of its address. Shorter ones are parts of other words.
const minSecret = 4

// withoutSecrets replaces an address in a text, and what may be secret of it.
func withoutSecrets(text, address string) string {
	if address == "" {
		return text
	}
	quoted := strconv.Quote(address)
	for _, form := range []string{address, quoted[1 : len(quoted)-1]} {
		if shown := Address(form); shown != form {
			text = strings.ReplaceAll(text, form, shown)
		}
	}
	for _, secret := range secrets(address) {
		if len(secret) >= minSecret {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// secrets returns the parts of an address that Address leaves out, as they are written and as they are meant, the longest first. Of
// an address that cannot be read they are all words behind the first one.
func secrets(address string) (parts []string) {
	add := func(values ...string) {
		for _, v := range values {
			parts = append(parts, v)
			if plain, err := url.PathUnescape(v); err == nil {
				parts = append(parts, plain)
			}
			if plain, err := url.QueryUnescape(v); err == nil {
				parts = append(parts, plain)
			}
		}
	}
	if Address(address) == Hidden {
		_, rest, ok := strings.Cut(address, "://")
		if !ok {
			rest = address
		}
		add(strings.FieldsFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })...)
	}
	for part := range strings.SplitSeq(address, ",") {
		_, rest, ok := strings.Cut(part, "://")
		if !ok {
			rest = part
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			user, password, _ := strings.Cut(rest[:at], ":")
			if password == "" {
				password = user // a token
			}
			add(rest[:at+1], password)
		}
		if _, query, ok := strings.Cut(rest, "?"); ok {
			add(query)
			for pair := range strings.SplitSeq(query, "&") {
				_, value, _ := strings.Cut(pair, "=")
				add(value)
			}
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	return parts
}
