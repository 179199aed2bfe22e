package rules

import (
	"errors"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// ownMessages begin the prefixes of messages that are walpurge's own.
const ownMessages = "walpurge."

// MaxMessagePrefix bounds the prefix of the messages that a rule carries out, in bytes.
const MaxMessagePrefix = 256

// message reads a rule of messages, which has no table and no templates.
func (l *ruleLoader) message(f *rawFields, rule strictyaml.Pos, defaults []int) {
	before := len(l.errs)
	l.r.Message = f.Message.Value
	switch {
	case f.Message.Value == "":
		l.fail(f.Message.Pos(), "`message` is empty; write the prefix that is given to pg_logical_emit_message, like cache.purge")
	case len(f.Message.Value) > MaxMessagePrefix:
		l.fail(f.Message.Pos(), "`message` is longer than %d bytes; choose a shorter prefix", MaxMessagePrefix)
	case strings.HasPrefix(f.Message.Value, ownMessages):
		l.fail(f.Message.Pos(), "`message`: prefixes that begin with %s are walpurge's own; choose another, like cache.purge", ownMessages)
	}
	beside := func(key string, given bool, at strictyaml.Pos) {
		if given {
			l.fail(at, "`%s` has no place beside `message`: what is purged stands in the message; remove it, or write another rule", key)
		}
	}
	beside("table", f.Table.Given(), f.Table.Pos())
	beside("ops", f.Ops != nil, rule)
	beside("when", f.When.Given(), f.When.Pos())
	for _, list := range f.Values.lists() {
		beside(list.kind.Plural(), list.texts != nil, rule)
	}
	for key, node := range map[string]*strictyaml.Node{"to": f.To.node, "on_truncate": f.OnTruncate.node, "lookup": f.Lookup.node, "headers": f.Headers.node} {
		if node != nil {
			beside(key, true, node.Key)
		}
	}
	if len(l.errs) > before {
		return
	}
	l.r.unknown = l.literals("unknown", f.Unknown.node, &f.Unknown.f.Values)
	l.route(f, rule, defaults)
	l.r.Sinks = nil
	for _, k := range invalidation.InRules() {
		l.r.Sinks = append(l.r.Sinks, l.r.routes[k]...)
	}
	slices.Sort(l.r.Sinks)
	l.r.Sinks = slices.Compact(l.r.Sinks)
	if len(l.errs) == before && len(l.r.Sinks) == 0 {
		l.fail(rule, "none of its sinks takes what a message can name, so nothing would be purged")
	}
	l.rules = append(l.rules, l.r)
}

// Watches reports whether a rule carries out messages with the prefix.
func (s *Set) Watches(prefix string) bool { return len(s.byMessage[prefix]) > 0 }

// Messages lists the prefixes of messages that rules carry out, sorted, each once.
func (s *Set) Messages() []string {
	out := make([]string, 0, len(s.byMessage))
	for prefix := range s.byMessage {
		out = append(out, prefix)
	}
	slices.Sort(out)
	return out
}

// Message tells out what a message that was committed with the log asks to purge.
// What cannot be used of it is the error, which holds nothing of the content: the
// rest counts nevertheless, and the rule's unknown: is handed over beside it.
func (s *Set) Message(prefix string, content []byte, out Output) error {
	ids := s.byMessage[prefix]
	if len(ids) == 0 {
		return nil
	}
	m := readMessage(content)
	var errs []error
	for _, id := range ids {
		if wrong := s.rules[id].carryOut(id, m, out); wrong != nil {
			errs = append(errs, wrong)
		}
	}
	return errors.Join(errs...)
}

// carryOut hands over what a message names, each value to the sinks of the rule
// that take it, and says what could not be used.
func (r *Rule) carryOut(id int, m message, out Output) *unfit {
	out.Verdict(id, Matched)
	wrong := unfit{rule: r.Name, prefix: r.Message, count: m.wrong.count, texts: slices.Clone(m.wrong.texts), kinds: m.wrong.kinds}
	lacks := make([]bool, len(r.specs)) // sinks for which a value is too long
	for _, kind := range invalidation.InRules() {
		values := m.values[kind]
		if len(values) > 0 && len(r.routes[kind]) == 0 {
			wrong.add(invalidation.Everything, len(values), "none of the rule's sinks takes "+kind.Plural())
			continue
		}
		for _, v := range values {
			for _, sink := range r.routes[kind] {
				if !r.specs[sink].Caps.Fits(kind, v) {
					wrong.count++
					wrong.say(kind.Plural() + ": " + r.specs[sink].tooLong(kind, v))
					lacks[sink] = true
					continue
				}
				if r.specs[sink].tagFits(kind, v) != nil {
					wrong.count++
					wrong.say(kind.Plural() + ": a tag that no header can carry to " + r.specs[sink].Name)
					lacks[sink] = true
					continue
				}
				out.Invalidate(id, sink, kind, v)
			}
		}
	}
	if wrong.count == 0 {
		return nil
	}
	out.Verdict(id, Failed)
	r.emitLiterals(id, &r.unknown, out)
	for _, sink := range r.Sinks {
		if (lacks[sink] || wrong.concerns(r, sink)) && !r.off(sink) && !r.takesAny(sink, &r.unknown) {
			out.Fallback(id, sink, &Fallback{Template: r.Message, Of: invalidation.Everything})
		}
	}
	return &wrong
}
