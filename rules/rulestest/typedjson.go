package rulestest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// jsonColumn is the text of a JSON document: as written for json, and for jsonb
// as PostgreSQL prints it: keys by length and then by bytes, the last of equal ones,
// numbers without an exponent.
func jsonColumn(text string, binary bool) (string, error) {
	wrong := errors.New(`it is not JSON; write a mapping, a list, or JSON in quotes, like '{"a": 1}' or '"text"'`)
	if !json.Valid([]byte(text)) {
		return "", wrong
	}
	if !binary {
		return text, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var x any
	if err := d.Decode(&x); err != nil {
		return "", wrong
	}
	if _, err := d.Token(); err != io.EOF {
		return "", wrong
	}
	var b strings.Builder
	if err := jsonbText(&b, x); err != nil {
		return "", err
	}
	return b.String(), nil
}

func jsonbText(b *strings.Builder, x any) error {
	switch x := x.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		fmt.Fprint(b, x)
	case json.Number:
		text, err := numericText(string(x), nil)
		if err != nil {
			return err
		}
		b.WriteString(text)
	case string:
		return jsonbString(b, x)
	case []any:
		b.WriteByte('[')
		for i := range x {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := jsonbText(b, x[i]); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int { return cmp.Or(len(a)-len(b), cmp.Compare(a, b)) })
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := jsonbString(b, k); err != nil {
				return err
			}
			b.WriteString(": ")
			if err := jsonbText(b, x[k]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	}
	return nil
}

// jsonbString quotes a text as PostgreSQL does (escape_json): only what must be is
// escaped.
func jsonbString(b *strings.Builder, s string) error {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == 0:
			return errors.New(`jsonb takes no \u0000`)
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ':
			if i := strings.IndexRune("\b\f\n\r\t", r); i >= 0 {
				b.WriteString(`\` + `bfnrt`[i:i+1])
				continue
			}
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return nil
}
