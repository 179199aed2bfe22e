package rules

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// frame checks the literal text of a template, which is the frame that no row
// may leave, and says which parts are to be escaped.
func (t *template) frame(kind invalidation.Kind) error {
	switch kind {
	case invalidation.URL:
		return t.urlFrame()
	case invalidation.URLPrefix:
		return t.prefixFrame()
	case invalidation.KeyPrefix:
		return t.keyPrefixFrame()
	case invalidation.Field:
		return t.fieldFrame()
	}
	return nil
}

const host = `[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?`

// Compiled once: a message may have thousands of values to be checked.
var (
	urlHead    = regexp.MustCompile(`^https?://` + host)
	prefixHead = regexp.MustCompile(`^` + host + `/`)
	noURL      = regexp.MustCompile(`[^!$%-)+-~]|[\\^` + "`" + `{|}"<>]|%([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)`)
)

func (t *template) urlFrame() error {
	head, more := t.head()
	m := urlHead.FindString(head)
	switch {
	case m == "":
		return errors.New("want scheme and host as literal text, like https://shop.example/p/{slug}")
	case len(m) == len(head) && !more:
	case len(m) == len(head) || head[len(m)] != '/' && head[len(m)] != '?':
		return errors.New("want a / behind the host, so that no value can lengthen it, like https://shop.example/p/{slug}")
	}
	return t.webFrame()
}

func (t *template) prefixFrame() error {
	head, _ := t.head()
	m := prefixHead.FindString(head)
	switch {
	case strings.Contains(head, "://"):
		return errors.New("a prefix has no scheme; write it like shop.example/m/{merchant_id}/")
	case m == "":
		return errors.New("want the host and a / as literal text, like shop.example/m/{merchant_id}/")
	}
	for i := range t.parts {
		if !t.parts[i].fills() && strings.Contains(t.parts[i].literal, "?") {
			return errors.New("a prefix ends before the query; remove the ?")
		}
	}
	return t.webFrame()
}

// webFrame is what URLs and prefixes of them have in common.
func (t *template) webFrame() error {
	var shape strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if p.fills() {
			if err := p.urlForm(strings.Contains(shape.String(), "?")); err != nil {
				return err
			}
			shape.WriteByte('x')
			continue
		}
		shape.WriteString(p.literal)
		if bad := noURL.FindString(p.literal); bad != "" {
			return fmt.Errorf("%q in the literal text has no place in a URL; percent-encode it", bad)
		}
	}
	if escapes(invalidation.URL, []byte(shape.String())) {
		return errors.New("a segment of dots (. or ..) has no place in its path")
	}
	return nil
}

// urlForm says whether the part is to be escaped, and refuses a form of text that has no place there.
func (p *part) urlForm(inQuery bool) error {
	p.escape = p.expr == nil || p.expr.urlForm == ""
	if p.expr == nil {
		return nil
	}
	switch form := p.expr.urlForm; {
	case p.expr.innerForm != "":
		return fmt.Errorf("in {%s}, %s() must be the outermost call: what it gives would be escaped again", p.source, p.expr.innerForm)
	case form == "rawpath" && inQuery:
		return fmt.Errorf("{%s} stands in the query; write rawquery() there", p.source)
	case (form == "rawquery" || form == "formquery") && !inQuery:
		return fmt.Errorf("{%s} stands before the ?; %s() is for the query, write rawpath() or urlpath() in the path", p.source, form)
	}
	return nil
}

func (t *template) keyPrefixFrame() error {
	head, _ := t.head()
	tail := &t.parts[len(t.parts)-1]
	switch {
	case head == "":
		return errors.New("want literal text at its beginning, like product:{id}:")
	case tail.fills() || !strings.ContainsAny(tail.literal[len(tail.literal)-1:], `!"#$%&'()+,-./:;<=>@^_|}~`):
		return errors.New("want a literal delimiter at its end, like the last : of product:{id}:, so that 1 is not taken for the beginning of 12")
	}
	return nil
}

// head is the literal text that the template begins with; more tells whether
// anything follows.
func (t *template) head() (head string, more bool) {
	if len(t.parts) == 0 || t.parts[0].fills() {
		return "", len(t.parts) > 0
	}
	return t.parts[0].literal, len(t.parts) > 1
}

// escapes reports whether a URL's path has a segment of dots, which readers of
// URLs take for a step up: escaping it would not help, since %2e counts as a dot
// to them (WHATWG URL, "double-dot path segment").
func escapes(kind invalidation.Kind, value []byte) bool {
	if kind != invalidation.URL && kind != invalidation.URLPrefix || bytes.IndexByte(value, '.') < 0 && bytes.IndexByte(value, '%') < 0 {
		return false
	}
	path, _, _ := bytes.Cut(value, []byte("?"))
	for len(path) > 0 {
		segment, rest, _ := bytes.Cut(path, []byte("/"))
		if dots(segment) {
			return true
		}
		path = rest
	}
	return false
}

// dots reports whether the segment is one or two dots, escaped or not.
func dots(segment []byte) bool {
	n := 0
	for ; len(segment) > 0; n++ {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && segment[0] == '%' && segment[1] == '2' && segment[2]|0x20 == 'e':
			segment = segment[3:]
		default:
			return false
		}
	}
	return n == 1 || n == 2
}

// hollow reports whether a text in a URL prefix leaves it as short as it was:
// shop.example/m/{id}/ must not become shop.example/m//, which many servers read
// as shop.example/m/.
func hollow(text []byte) bool { return len(bytes.Trim(text, "/")) == 0 }
