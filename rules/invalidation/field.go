package invalidation

import (
	"strconv"
	"strings"
)

// FieldSeparator stands between the key and the field in the value of a Field. A key or field
// that has this byte, or the one that begins an escape, has it escaped, so that a value can
// be cut in one way only. Almost no application uses either byte in a name.
const (
	FieldSeparator = 0x00
	fieldEscape    = 0x01
)

// EscapeField escapes a part of a key or of a field for the value of a Field.
func EscapeField(dst, text []byte) []byte {
	for _, c := range text {
		switch c {
		case FieldSeparator:
			dst = append(dst, fieldEscape, 1)
		case fieldEscape:
			dst = append(dst, fieldEscape, 2)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// UnescapeField undoes EscapeField.
func UnescapeField(text string) string {
	if strings.IndexByte(text, fieldEscape) < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == fieldEscape && i+1 < len(text) {
			i++
			out = append(out, text[i]-1)
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}

// JoinField returns the value of a Field: the key of a hash and a field of it, any bytes.
func JoinField(key, field string) string {
	out := EscapeField(make([]byte, 0, len(key)+len(field)+1), []byte(key))
	return string(EscapeField(append(out, FieldSeparator), []byte(field)))
}

// SplitField returns the key and the field that JoinField joined. A value without a field, which
// no rule makes, is a key with an empty field.
func SplitField(value string) (key, field string) {
	key, field, _ = strings.Cut(value, string([]byte{FieldSeparator}))
	return UnescapeField(key), UnescapeField(field)
}

// Text is a value as people read it: that of a Field as its key and its field, each quoted where
// the two could not be told apart otherwise.
func (k Kind) Text(value string) string {
	if k != Field {
		return value
	}
	key, field := SplitField(value)
	return fieldWord(key) + " " + fieldWord(field)
}

func fieldWord(s string) string {
	quoted := strconv.Quote(s)
	if s == "" || strings.ContainsAny(s, ` "`) || quoted != `"`+s+`"` {
		return quoted
	}
	return s
}
