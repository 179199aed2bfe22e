package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// rawLookups is what a rule has under lookup:.
type rawLookups struct {
	node   *strictyaml.Node
	byName strictyaml.Map[rawLookup]
}

type rawLookup struct {
	SQL     strictyaml.Text                   `yaml:"sql"`
	Args    []strictyaml.Text                 `yaml:"args"`
	Limit   strictyaml.Located[int]           `yaml:"limit"`
	Timeout strictyaml.Located[time.Duration] `yaml:"timeout"`
}

// UnmarshalYAML keeps the node, for the block's place.
func (r *rawLookups) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	return n.Decode(&r.byName)
}

// lookups reads a rule's lookups, before the templates that name them.
func (l *ruleLoader) lookups(raw *rawLookups) {
	if raw.node != nil && len(raw.byName) == 0 {
		l.fail(raw.node.Key, "`lookup` is empty; write a name with `sql` and `args` below it, or remove it")
	}
	for i := range raw.byName {
		e := &raw.byName[i]
		if !regexp.MustCompile(`^`+identifier+`$`).MatchString(e.Key) || isVariable(e.Key) {
			l.fail(e.Pos, "`lookup`: %q is no name; want letters, digits and _, like m", e.Key)
			continue
		}
		l.r.lookups = append(l.r.lookups, l.oneLookup(e))
	}
}

func (l *ruleLoader) oneLookup(e *strictyaml.Entry[rawLookup]) *Lookup {
	raw, label := &e.Value, fmt.Sprintf("lookup %q: ", e.Key)
	q := &Lookup{Name: e.Key, Rule: l.r.Name, File: l.file, Line: e.Pos.Line, text: raw.SQL, Limit: defaultLookupRows, Timeout: defaultLookupTimeout}
	if at := raw.Limit.Pos; !at.IsZero() {
		if q.Limit = raw.Limit.Value; q.Limit < 1 || q.Limit > MaxLookupRows {
			l.fail(at, "%slimit: %d; write a number from 1 to %d", label, q.Limit, MaxLookupRows)
		}
	}
	if at := raw.Timeout.Pos; !at.IsZero() {
		if q.Timeout = raw.Timeout.Value; q.Timeout < minLookupTimeout || q.Timeout > MaxLookupTimeout {
			l.fail(at, "%stimeout: %s; write a duration from %s to %s: the reader waits for the answer", label, q.Timeout, minLookupTimeout, MaxLookupTimeout)
		}
	}
	if strings.TrimSpace(raw.SQL.Value) == "" {
		l.fail(e.Pos, "%s`sql` is missing; write a SELECT, like SELECT store_id FROM menu_stores WHERE menu_id = $1", label)
		return q
	}
	var err error
	if q.texts, q.params, err = cutSQL(raw.SQL.Value); err != nil {
		l.fail(raw.SQL.Pos(), "%s`sql`: %v", label, err)
		return q
	}
	q.SQL = q.With(func(n int) string { return fmt.Sprint("$", n) })
	for _, text := range raw.Args {
		if t := l.argument(text, label); t != nil {
			q.args = append(q.args, t)
		}
	}
	switch want := slices.Max(append(slices.Clone(q.params), 0)); {
	case want != len(raw.Args):
		l.fail(e.Pos, "%s`sql` has parameters up to $%d, and `args` has %d; give each parameter an argument, like args: [\"{menu_id}\"]", label, want, len(raw.Args))
	default:
		for n := 1; n <= want; n++ {
			if !slices.Contains(q.params, n) {
				l.fail(e.Pos, "%s`sql` does not use $%d; count the parameters without a hole", label, n)
			}
		}
	}
	return q
}

// argument reads one of args:, which is a template with one value.
func (l *ruleLoader) argument(text strictyaml.Text, label string) *template {
	label = fmt.Sprintf("%sargument %q: ", label, text.Value)
	t, at, err := parseTemplate(text.Value)
	if err != nil {
		l.fail(text.At(at), "%s%v", label, err)
		return nil
	}
	t.line = text.Pos().Line
	choices, count, ok := l.expressions(t, text, label)
	switch {
	case !ok:
		return nil
	case t.lookup != "":
		l.fail(text.Pos(), "%sit reads the lookup %q, but an argument can only read the row", label, t.lookup)
		return nil
	case count > 1:
		l.fail(text.Pos(), "%sit has a list, but an argument has one value", label)
		return nil
	}
	return t.choose(invalidation.Key, choices, count)[0]
}

var lookupColumn = regexp.MustCompile(`^(` + identifier + `)(?:\.(` + identifier + `)|\[(` + quoted + `)\])$`)

// answered makes a part that names a column of a lookup's answer one, and notes
// that the template waits for the lookup.
func (l *ruleLoader) answered(t *template, p *part, text strictyaml.Text, label string) (ok bool) {
	name := ""
	switch m := lookupColumn.FindStringSubmatch(p.source); {
	case p.lone && l.r.lookup(p.column) != nil:
		l.fail(text.At(p.at), "%s{%s} is a lookup; name a column of it, like {%s.id}, or write {row.%s} for the column", label, p.column, p.column, p.column)
		return false
	case m != nil && l.r.lookup(m[1]) != nil:
		name, p.source, p.column = m[1], "", m[2]
		if m[3] != "" {
			p.column = m[3][1 : len(m[3])-1]
		}
		p.answer = true
		l.r.lookup(name).reads(p.column)
	case p.expr != nil && p.expr.lookup != "":
		name, p.answer = p.expr.lookup, true
	default:
		return true
	}
	if t.lookup != "" && t.lookup != name {
		l.fail(text.Pos(), "%sit reads the lookups %q and %q; a value can wait for one", label, t.lookup, name)
		return false
	}
	t.lookup = name
	return true
}

// answerable checks a rule's lookups once its values are read: each is used, and
// where it gives no answer every sink has something to purge instead.
func (l *ruleLoader) answerable(raw *rawLookups) {
	for _, q := range l.r.lookups {
		used := false
		for k := range l.r.values {
			for _, t := range l.r.values[k] {
				if t.lookup != q.Name {
					continue
				}
				used = true
				if !l.r.namesUnknown(t) {
					l.fail(raw.node.Key, "`lookup` needs an `unknown` that names something for each of the rule's sinks: it is purged where %q has no row, fails or takes too long", q.Name)
					return
				}
			}
		}
		if !used {
			l.fail(strictyaml.Pos{Line: q.Line, Column: 1}, "the lookup %q is used by no value; write one with a column of it, like {%s.id}%s", q.Name, q.Name, l.meant(q.Name))
		}
	}
}

// meant suggests a word that templates use and that is near a lookup's name.
func (l *ruleLoader) meant(name string) string {
	var words []string
	for k := range l.r.values {
		for _, t := range l.r.values[k] {
			for _, c := range t.reads() {
				words = append(words, c.name)
			}
		}
	}
	if near := strictyaml.Nearest(name, words); near != "" {
		return fmt.Sprintf("; {%s...} reads the column %q of the row, did you mean %q there?", near, near, name)
	}
	return ""
}
