package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Bounds of one message: more bytes are not read, and of more values the first
// are taken.
const (
	MaxMessage       = 1 << 20
	MaxMessageValues = 10_000
)

// message is what the content of one asks for, as far as it can be used.
type message struct {
	values [invalidation.NumKinds][][]byte
	count  int
	wrong  unfit
}

// unfit is what of a message cannot be used. It names places and reasons, never
// the content.
type unfit struct {
	rule, prefix string
	count        int
	texts        []string
	// kinds are those of the parts; Everything where a part may have named any.
	kinds invalidation.KindSet
}

// shownUnfit is how many of them an error spells out.
const shownUnfit = 3

func (u *unfit) add(kind invalidation.Kind, count int, text string) {
	u.count += count
	u.kinds |= invalidation.Kinds(kind)
	u.say(text)
}

func (u *unfit) say(text string) {
	if len(u.texts) < shownUnfit && !slices.Contains(u.texts, text) {
		u.texts = append(u.texts, text)
	}
}

// concerns reports whether a part may have named something for the sink that unknown: does not
// stand in for. What does not even say a kind is covered by any unknown:, whose author has said
// what such a message means.
func (u *unfit) concerns(r *Rule, sink int) bool {
	if u.kinds.Has(invalidation.Everything) && !r.unknown.given {
		return true
	}
	for k := range r.routes {
		if invalidation.Kind(k) != invalidation.Everything && u.kinds.Has(invalidation.Kind(k)) && slices.Contains(r.routes[k], sink) {
			return true
		}
	}
	return false
}

// Error says what is wrong with the message, and where.
func (u *unfit) Error() string {
	parts := "parts"
	if u.count == 1 {
		parts = "part"
	}
	return fmt.Sprintf("rule %q: %d %s of a message %q cannot be used: %s", u.rule, u.count, parts, u.prefix, strings.Join(u.texts, "; "))
}

// readMessage reads the content of a message: a JSON object whose members are
// kinds with lists of texts. A member that is there twice counts twice.
func readMessage(content []byte) (m message) {
	switch {
	case len(content) > MaxMessage:
		m.wrong.add(invalidation.Everything, 1, fmt.Sprintf("it is longer than %d bytes", MaxMessage))
		return m
	case !utf8.Valid(content):
		m.wrong.add(invalidation.Everything, 1, "it is not UTF-8")
		return m
	case !json.Valid(content):
		m.wrong.add(invalidation.Everything, 1, `it is not JSON; write an object like {"keys": ["home"]}`)
		return m
	}
	d := json.NewDecoder(bytes.NewReader(content))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		m.wrong.add(invalidation.Everything, 1, `it is not an object; write one like {"keys": ["home"]}`)
		return m
	}
	for n := 1; d.More(); n++ {
		if err := m.member(d, n); err != nil {
			m.wrong.add(invalidation.Everything, 1, "it cannot be read to its end")
			return m
		}
	}
	return m
}

// member reads the n-th member of a message; it fails only where the JSON does.
func (m *message) member(d *json.Decoder, n int) error {
	name, err := d.Token()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	kinds := invalidation.InRules()
	i := slices.IndexFunc(kinds, func(k invalidation.Kind) bool { return k.Plural() == name })
	if i < 0 {
		names := invalidation.Plurals(kinds)
		last := len(names) - 1
		m.wrong.add(invalidation.Everything, 1, fmt.Sprintf("member %d is not one of %s and %s", n, strings.Join(names[:last], ", "), names[last]))
		return nil
	}
	elements := json.NewDecoder(bytes.NewReader(raw))
	if open, err := elements.Token(); err != nil || open != json.Delim('[') {
		m.wrong.add(kinds[i], 1, kinds[i].Plural()+" is not a list")
		return nil
	}
	for n := 0; elements.More(); n++ {
		var element json.RawMessage
		if err := elements.Decode(&element); err != nil {
			return err
		}
		m.element(kinds[i], n, element)
	}
	if _, err := elements.Token(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (m *message) element(kind invalidation.Kind, n int, raw json.RawMessage) {
	at := fmt.Sprintf("%s[%d] ", kind.Plural(), n)
	if m.count++; m.count > MaxMessageValues {
		m.wrong.add(invalidation.Everything, 1, fmt.Sprintf("it has more than %d values", MaxMessageValues))
		return
	}
	text, err := elementText(kind, raw)
	if err == nil {
		err = fits(kind, text)
	}
	if err != nil {
		m.wrong.add(kind, 1, at+err.Error())
		return
	}
	m.values[kind] = append(m.values[kind], []byte(text))
}

// elementText is the value that an element of a list names: a text, or an object with the two
// texts of a field.
func elementText(kind invalidation.Kind, raw json.RawMessage) (string, error) {
	if kind.Form() != invalidation.FormField {
		return jsonText(raw)
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(raw, &parts) != nil || len(parts) != 2 || parts["key"] == nil || parts["field"] == nil {
		return "", errors.New("is not an object with a key and a field")
	}
	key, err := jsonText(parts["key"])
	if err != nil {
		return "", err
	}
	field, err := jsonText(parts["field"])
	if err != nil {
		return "", err
	}
	if key == "" {
		return "", errors.New("has an empty key")
	}
	return invalidation.JoinField(key, field), nil
}

func jsonText(raw json.RawMessage) (text string, err error) {
	switch err := json.Unmarshal(raw, &text); {
	case err != nil || raw[0] != '"':
		return "", errors.New("is not a text")
	case strings.ContainsRune(text, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) && !strings.Contains(strings.ToLower(string(raw)), `\ufffd`):
		return "", errors.New("has half of a surrogate pair")
	}
	return text, nil
}

// fits checks a value that no template frames: it must be what the literal
// text of a template of its kind could be.
func fits(kind invalidation.Kind, value string) error {
	switch {
	case value == "":
		return errors.New("is empty")
	case len(value) > invalidation.MaxValue:
		return fmt.Errorf("is %d bytes long, at most %d are allowed", len(value), invalidation.MaxValue)
	}
	t := template{parts: []part{{literal: value}}}
	if err := t.frame(kind); err != nil {
		return fmt.Errorf("is no %s that can be purged", kind)
	}
	return nil
}
