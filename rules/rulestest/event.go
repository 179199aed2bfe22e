package rulestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Event is what a test, or a call of explain, gives to the rules.
type Event struct {
	// Change is the row event or TRUNCATE, nil for a message.
	Change *cdc.Change
	// Message is nil for a change.
	Message *Message
	answers map[string]rules.Answer
}

// Message is a message of the log.
type Message struct {
	Prefix  string
	Content []byte
}

// Answer gives the rows that the event has for a lookup of that name, whatever is
// asked; without any it is one that failed.
func (e *Event) Answer(q rules.Query) rules.Answer {
	if a, ok := e.answers[q.Lookup.Name]; ok {
		return a
	}
	return rules.Answer{Err: errors.New("no rows are given for it under `lookup`")}
}

// Unwatched says that no rule of the set has to do with the event; nil if one has.
func (e *Event) Unwatched(set *rules.Set) error {
	if e.Message != nil {
		if set.Watches(e.Message.Prefix) {
			return nil
		}
		return fmt.Errorf("no rule carries out messages with the prefix %q%s", e.Message.Prefix, strictyaml.DidYouMean(e.Message.Prefix, set.Messages()))
	}
	table := cdc.Table{Schema: e.Change.Rel.Schema, Name: e.Change.Rel.Name}
	if set.Matches(table) {
		return nil
	}
	names := set.Patterns()
	for _, t := range set.Tables() {
		names = append(names, t.String())
	}
	return fmt.Errorf("no rule watches the table %q%s", table, strictyaml.DidYouMean(table.String(), names))
}

// Explain tells what the rules make of the event, and why. It ends early with the context.
func (e *Event) Explain(ctx context.Context, set *rules.Set) []rules.Explanation {
	if e.Message != nil {
		return set.ExplainMessage(e.Message.Prefix, e.Message.Content)
	}
	return set.Explain(ctx, e.Change, e.Answer)
}

// rawMessage is a message as written: content is the JSON, or a text that is
// taken as it stands.
type rawMessage struct {
	Prefix  strictyaml.Text  `yaml:"prefix"`
	Content *strictyaml.Node `yaml:"content"`
}

// event builds what the stream would carry; at is the place of the whole.
func (l *loader) event(raw *rawChange, at strictyaml.Pos) *Event {
	e := &Event{}
	if raw.Message == nil {
		e.Change = l.change(raw, at)
		e.answers = l.answers(raw.Lookup)
		return e
	}
	for key, given := range map[string]bool{"table": raw.Table.Given(), "insert": raw.Insert != nil, "update": raw.Update != nil,
		"delete": raw.Delete != nil, "truncate": raw.Truncate.Value, "identity": raw.Identity != nil, "lookup": raw.Lookup != nil} {
		if given {
			l.failf(at, "`%s` has no place beside `message`; write another test for it", key)
		}
	}
	e.Message = &Message{Prefix: raw.Message.Prefix.Value}
	if raw.Message.Prefix.Value == "" {
		l.failf(at, "message: `prefix` is missing; write it as in the rule, like {prefix: cache.purge, content: {keys: [home]}}")
	}
	switch n := raw.Message.Content; {
	case n == nil:
	case n.Kind == strictyaml.Scalar:
		e.Message.Content = []byte(l.text(n))
	default:
		var b bytes.Buffer
		l.json(&b, n)
		e.Message.Content = b.Bytes()
	}
	return e
}

// answers reads the rows of each lookup; their types are guessed as those of
// changes are.
func (l *loader) answers(raw strictyaml.Map[[]row]) map[string]rules.Answer {
	out := make(map[string]rules.Answer, len(raw))
	for _, e := range raw {
		shape := l.relation(cdc.Table{}, e.Value...)
		a := rules.Answer{Shape: shape}
		for _, r := range e.Value {
			a.Rows = append(a.Rows, l.tuple(shape, r))
		}
		out[e.Key] = a
	}
	return out
}

// lookupsOf are the names of the lookups that the rules of a table have.
func lookupsOf(set *rules.Set, t cdc.Table) []string {
	watching := map[string]bool{}
	for _, r := range set.RulesOf(t) {
		watching[r.Name] = true
	}
	var out []string
	for _, q := range set.Lookups() {
		if watching[q.Rule] {
			out = append(out, q.Name)
		}
	}
	return out
}
