package rules

import "bytes"

// form is how a column's PostgreSQL text becomes the text in a value. There is
// one form per type, the same wherever a value is built.
type form uint8

const (
	asIs form = iota
	boolForm
	byteaForm
	timestamptzForm
	// charForm is without the blanks that fill a char(n) up: SQL ignores them wherever it
	// computes with the value.
	charForm
)

func formOf(oid uint32) form {
	switch oid {
	case oidBool:
		return boolForm
	case oidBytea:
		return byteaForm
	case oidTimestamptz:
		return timestamptzForm
	case oidBpchar:
		return charForm
	}
	return asIs
}

// appendText appends a column's text to dst.
func appendText(dst, text []byte, f form) []byte {
	switch f {
	case boolForm:
		switch string(text) {
		case "t":
			return append(dst, "true"...)
		case "f":
			return append(dst, "false"...)
		}
	case byteaForm:
		if len(text) >= 2 && text[0] == '\\' && text[1] == 'x' {
			return append(dst, text[2:]...)
		}
	case charForm:
		return append(dst, withoutBlanks(text)...)
	case timestamptzForm:
		return appendTimestamp(dst, text)
	}
	return append(dst, text...)
}

func withoutBlanks(text []byte) []byte { return bytes.TrimRight(text, " ") }

// appendTimestamp turns 2026-11-20 12:00:00.5+00, PostgreSQL's ISO style under
// TimeZone=UTC, into 2026-11-20T12:00:00.500000Z. What has no RFC 3339 form
// (infinity, BC, years past 9999) stays as it is.
func appendTimestamp(dst, text []byte) []byte {
	const layout = "0000-00-00 00:00:00"
	n := len(text)
	if n < len(layout)+3 || string(text[n-3:]) != "+00" {
		return append(dst, text...)
	}
	for i := range len(layout) {
		digit := text[i] >= '0' && text[i] <= '9'
		if layout[i] == '0' && !digit || layout[i] != '0' && text[i] != layout[i] {
			return append(dst, text...)
		}
	}
	fraction := text[len(layout) : n-3]
	if len(fraction) > 7 || len(fraction) == 1 || len(fraction) > 1 && fraction[0] != '.' {
		return append(dst, text...)
	}
	for i := 1; i < len(fraction); i++ {
		if fraction[i] < '0' || fraction[i] > '9' {
			return append(dst, text...)
		}
	}
	dst = append(dst, text[:10]...)
	dst = append(dst, 'T')
	dst = append(dst, text[11:19]...)
	dst = append(dst, '.')
	if len(fraction) > 1 {
		dst = append(dst, fraction[1:]...)
	}
	for i := max(len(fraction), 1); i < 7; i++ {
		dst = append(dst, '0')
	}
	return append(dst, 'Z')
}
