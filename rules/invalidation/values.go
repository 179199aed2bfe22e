package invalidation

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Values are values by kind, each once.
type Values [NumKinds][]string

// base64Member is the member of an object that has the values that are not UTF-8, by the singular
// name of their kind.
const base64Member = "base64"

// Layout is how an object of JSON holds Values: a member for each kind, with the plural as its name,
// and base64 for texts that are not UTF-8. The stream, webhooks, Pub/Sub messages and the HTTP API
// each have one.
type Layout struct {
	order  []Kind
	has    KindSet
	always KindSet
}

// NewLayout returns a layout of the kinds of a set. Kinds in always have a member where they have no
// values. The kinds of first come first; the others follow in the order of the table.
func NewLayout(has, always KindSet, first ...Kind) Layout {
	l := Layout{has: has, always: has & always}
	for _, k := range append(slices.Clone(first), All()...) {
		if has.Has(k) && !slices.Contains(l.order, k) {
			l.order = append(l.order, k)
		}
	}
	return l
}

// Required are the kinds whose lists items of the stream and of webhooks always have.
func Required() KindSet {
	return Kinds(kindsWhere(func(row *kindRow) bool { return !row.optional })...)
}

// Append writes the members, each behind a comma, so that the object needs another one before them.
func (l *Layout) Append(out []byte, v *Values) []byte {
	notUTF8 := 0
	for _, k := range l.order {
		if len(v[k]) == 0 && !l.always.Has(k) {
			continue
		}
		start := len(out)
		out = append(append(append(out, `,"`...), k.Plural()...), `":`...)
		switch k.Form() {
		case FormFlag:
			out = append(out, "true"...)
		case FormField:
			out = appendFields(out, v[k])
		case FormText:
			var left int
			out, left = appendTexts(out, v[k])
			if notUTF8 += left; left == len(v[k]) && !l.always.Has(k) {
				out = out[:start]
			}
		}
	}
	if notUTF8 == 0 {
		return out
	}
	inBase64 := make(map[string][]string)
	for _, k := range l.order {
		for _, text := range v[k] {
			if k.Form() == FormText && !utf8.ValidString(text) {
				inBase64[k.String()] = append(inBase64[k.String()], base64.StdEncoding.EncodeToString([]byte(text)))
			}
		}
	}
	raw, _ := json.Marshal(inBase64) // texts never fail
	return append(append(out, `,"`+base64Member+`":`...), raw...)
}

// appendTexts writes a list without the texts that are not UTF-8, of which it returns the number.
func appendTexts(out []byte, values []string) (_ []byte, notUTF8 int) {
	first := true
	out = append(out, '[')
	for _, v := range values {
		if !plain(v) && !utf8.ValidString(v) {
			notUTF8++
			continue
		}
		if !first {
			out = append(out, ',')
		}
		out, first = appendText(out, v), false
	}
	return append(out, ']'), notUTF8
}

// field is the JSON form of a Field: its key and its field, both in base64 where one of them is
// not UTF-8.
type field struct {
	Key    string `json:"key"`
	Field  string `json:"field"`
	Base64 bool   `json:"base64,omitempty"`
}

func appendFields(out []byte, values []string) []byte {
	out = append(out, '[')
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		key, name := SplitField(v)
		text := utf8.ValidString(v)
		if !text {
			key, name = base64.StdEncoding.EncodeToString([]byte(key)), base64.StdEncoding.EncodeToString([]byte(name))
		}
		out = appendText(append(out, `{"key":`...), key)
		out = appendText(append(out, `,"field":`...), name)
		if !text {
			out = append(out, `,"base64":true`...)
		}
		out = append(out, '}')
	}
	return append(out, ']')
}

// joinFields returns the values of a list of fields.
func joinFields(all []field) ([]string, error) {
	var out []string
	for _, f := range all {
		if f.Base64 {
			key, err := base64.StdEncoding.DecodeString(f.Key)
			if err != nil {
				return nil, fmt.Errorf("base64 key: %w", err)
			}
			name, err := base64.StdEncoding.DecodeString(f.Field)
			if err != nil {
				return nil, fmt.Errorf("base64 field: %w", err)
			}
			f.Key, f.Field = string(key), string(name)
		}
		out = append(out, JoinField(f.Key, f.Field))
	}
	return out, nil
}

// Read reads an object. It calls other for each member that the layout lacks, for each such kind in
// base64, and for fields with members of their own that it does not know. As the JSON library does,
// it compares names without regard to case, and takes the last of members of one name.
func (l *Layout) Read(object []byte, v *Values, other func(member string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(object))
	switch open, err := d.Token(); {
	case err != nil:
		return err
	case open != json.Delim('{'):
		return errors.New("not an object")
	}
	var inBase64 map[string][]string
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		member, _ := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if strings.EqualFold(member, base64Member) {
			err = json.Unmarshal(value, &inBase64)
		} else if k, found := l.kind(member); found {
			err = readValues(k, value, v, other)
		} else if err := other(member, value); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", member, err)
		}
	}
	return l.addBase64(v, inBase64, func(kind string) error { return other(kind, json.RawMessage("true")) })
}

// kind is the kind of a member.
func (l *Layout) kind(member string) (Kind, bool) {
	for _, k := range l.order {
		if strings.EqualFold(k.Plural(), member) {
			return k, true
		}
	}
	return 0, false
}

func readValues(k Kind, value json.RawMessage, v *Values, other func(string, json.RawMessage) error) (err error) {
	v[k] = nil
	switch k.Form() {
	case FormText:
		return json.Unmarshal(value, &v[k])
	case FormFlag:
		var set bool
		if err := json.Unmarshal(value, &set); err != nil {
			return err
		}
		if set {
			v[k] = []string{""}
		}
		return nil
	case FormField:
	}
	var all []field
	if err := json.Unmarshal(value, &all); err != nil {
		return err
	}
	strict := json.NewDecoder(bytes.NewReader(value))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new([]field)); err != nil {
		if err := other(k.Plural(), value); err != nil {
			return err
		}
	}
	v[k], err = joinFields(all)
	return err
}

// addBase64 appends values in base64, and calls unknown for kinds that the layout lacks.
func (l *Layout) addBase64(v *Values, byName map[string][]string, unknown func(kind string) error) error {
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		i := slices.IndexFunc(l.order, func(k Kind) bool { return k.Form() == FormText && k.String() == name })
		if i < 0 {
			if len(byName[name]) > 0 {
				if err := unknown(name); err != nil {
					return err
				}
			}
			continue
		}
		for _, text := range byName[name] {
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return fmt.Errorf("base64 %s: %w", name, err)
			}
			v[l.order[i]] = append(v[l.order[i]], string(b))
		}
	}
	return nil
}
