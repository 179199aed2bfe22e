package rules

import (
	"errors"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

var errNotAsked = errors.New("no rows were given for it")

// explainLookup asks as ask and Fill do, and keeps the reasons.
func (s *Set) explainLookup(p *Plan, b *boundRule, l *boundLookup, op cdc.Op, answer func(Query) Answer, e *Explanation) {
	for row, view := range p.rows(l.each) {
		var notes []string
		asked := Asked{Lookup: l.Name, SQL: l.SQL}
		if l.each {
			asked.Image = p.imageOf(view)
		}
		f := fanout{plan: p, notes: &notes}
		pending := f.pend(b, l, op, row, view)
		asked.Unknown = f.unknown
		if pending == nil {
			asked.Skipped = strings.Join(notes, "; ")
			e.Lookups = append(e.Lookups, asked)
			continue
		}
		a := answer(pending.Query)
		asked.Args, asked.Rows = pending.Query.Args, len(a.Rows)
		if err := lacking(l.Lookup, a); err != nil {
			notes, asked.Unknown = append(notes, err.Error()), true
		} else {
			for i := range pending.templates {
				e.Templates = append(e.Templates, s.explainAnswer(pending, &pending.templates[i], a, asked.Image))
			}
		}
		asked.Skipped = strings.Join(notes, "; ")
		e.Lookups = append(e.Lookups, asked)
	}
}

func (s *Set) explainAnswer(p *Pending, t *pendingTemplate, a Answer, image string) Expansion {
	x := Expansion{Kind: t.kind, Template: t.source, Image: image}
	for _, i := range t.sinks {
		x.Sinks = append(x.Sinks, s.sinks[i].Name)
	}
	var notes []string
	var without lacks
	f := fanout{notes: &notes}
	x.Values = f.answered(t, a, newAnswerView(p, a))
	for _, v := range x.Values {
		notes = append(notes, s.tooLong(t.boundTemplate, []byte(v), &without)...)
	}
	if f.unknown {
		without.add(t.boundTemplate, everySink)
	}
	x.Skipped, x.Unknown, x.Instead = strings.Join(notes, "; "), len(without.all) > 0, s.instead(p.rule, &without)
	return x
}

// ExplainMessage tells for each rule of messages with the prefix what it makes of
// one. It is nil without one.
func (s *Set) ExplainMessage(prefix string, content []byte) []Explanation {
	m := readMessage(content)
	var out []Explanation
	for _, id := range s.byMessage[prefix] {
		r := s.rules[id]
		purges := purgeList{set: s}
		e := Explanation{Rule: r.Name, File: r.File, Line: r.Line, Matched: true, Why: "it carries out messages with this prefix"}
		if wrong := r.carryOut(id, m, &purges); wrong != nil {
			e.Why += "; what cannot be used: " + strings.Join(wrong.texts, "; ")
		}
		e.Purges = purges.purges
		out = append(out, e)
	}
	return out
}
