package display

import (
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Name returns a name as it is if all of its characters are printable, else quoted as in Go: no line break, escape sequence,
// change of the writing direction or byte that is not UTF-8 is left.
func Name(name string) string {
	for i, r := range name {
		if !printable(r) || r == utf8.RuneError && isInvalid(name[i:]) {
			return strconv.Quote(name)
		}
	}
	return name
}

func isInvalid(s string) bool {
	_, size := utf8.DecodeRuneInString(s)
	return size == 1
}

// printable is strconv.IsPrint and the spaces of other scripts.
func printable(r rune) bool { return strconv.IsPrint(r) || unicode.Is(unicode.Zs, r) }

// Writer returns a writer to a terminal or a file that escapes all characters of a text that are not printable, except line breaks
// and tabs. The escapes are those of JSON, so that a document stays one; a byte that is not UTF-8 becomes \xNN.
func Writer(to io.Writer) io.Writer { return &writer{to} }

type writer struct{ to io.Writer }

// Write returns len(p) unless it returns an error.
func (w *writer) Write(p []byte) (int, error) {
	if _, err := w.to.Write(escape(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escape returns p itself if there is nothing to escape.
func escape(p []byte) []byte {
	var out []byte
	kept := 0 // all before it is in out
	for i := 0; i < len(p); {
		r, size := utf8.DecodeRune(p[i:])
		invalid := r == utf8.RuneError && size == 1
		if !invalid && (printable(r) || r == '\n' || r == '\t') {
			i += size
			continue
		}
		out = append(out, p[kept:i]...)
		switch {
		case invalid:
			out = fmt.Appendf(out, `\x%02x`, p[i])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += size
		kept = i
	}
	if kept == 0 {
		return p
	}
	return append(out, p[kept:]...)
}
