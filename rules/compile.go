package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// ruleLoader compiles one rule.
type ruleLoader struct {
	*loader
	file string
	r    *Rule
}

func (l *ruleLoader) fail(at strictyaml.Pos, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	same := text
	if strings.HasPrefix(text, "`") { // which key of the rule it is about
		if _, rest, found := strings.Cut(text, "`: "); found {
			same = rest
		}
	}
	l.errs = append(l.errs, &strictyaml.Error{
		File: l.file, Line: at.Line, Column: at.Column, Msg: fmt.Sprintf("rule %q: %s", l.r.Name, text), Same: same,
	})
}

func (l *loader) rule(file string, raw *rawRule, defaults []int) {
	f := &raw.f
	r := &Rule{Name: f.Name.Value, File: file, Line: raw.node.Pos.Line, specs: l.opts.Sinks}
	if !f.Name.Given() {
		l.errs.Addf(file, raw.node.Pos, "this rule has no name; add `name:`, it shows in metrics and logs")
		return
	}
	rl := &ruleLoader{loader: l, file: file, r: r}
	before := len(l.errs)
	rl.name(f.Name)
	if f.Vars != nil {
		rl.fail(f.Vars.Key, "`vars` belongs to the top of the file, beside `rules`")
	}
	if f.Message.Given() {
		rl.message(f, raw.node.Pos, defaults)
		return
	}
	rl.table(f.Table, raw.node.Pos)
	rl.lookups(&f.Lookup)
	rl.ops(f.Ops)
	for _, list := range f.Values.lists() {
		rl.templates(list.kind, list.texts)
	}
	rl.to(&f.To)
	rl.collapse(&f.Collapse)
	rl.pace(f.Every, f.Rollout)
	r.unknown = rl.literals("unknown", f.Unknown.node, &f.Unknown.f.Values)
	r.onTruncate = rl.literals("on_truncate", f.OnTruncate.node, &f.OnTruncate.f)
	r.covers = f.Unknown.f.Covers.Value
	if f.When.Given() {
		r.when = rl.condition(f.When)
	}
	if len(l.errs) == before && r.empty() {
		rl.fail(raw.node.Pos, "it has no `keys`, `tags` or other values, so nothing would be purged; add some")
	}
	rl.route(f, raw.node.Pos, defaults)
	if len(l.errs) == before {
		rl.headers(&f.Headers)
	}
	if len(l.errs) == before {
		rl.answerable(&f.Lookup)
	}
	l.rules = append(l.rules, r)
}

func (r *Rule) empty() bool {
	for k := range r.values {
		if len(r.values[k]) > 0 {
			return false
		}
	}
	return true
}

func (l *ruleLoader) name(name strictyaml.Text) {
	const valid = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	if name.Value == "" || strings.Trim(name.Value, valid) != "" || strings.ContainsFunc(name.Value, func(c rune) bool { return !strings.ContainsRune(valid, c) }) {
		l.fail(name.Pos(), "a rule's name has letters, digits, _ and - only")
		return
	}
	if first, ok := l.seen[name.Value]; ok {
		l.fail(name.Pos(), "the name is taken by the rule at %s:%d; names are unique over all files", first.File, first.Line)
		return
	}
	l.seen[name.Value] = l.r
}

func (l *ruleLoader) table(t strictyaml.Text, rule strictyaml.Pos) {
	schema, name, dot := strings.Cut(t.Value, ".")
	l.r.Table = Table{Schema: schema, Name: name}
	switch {
	case !t.Given():
		l.fail(rule, "`table` is missing; write it with its schema, like public.products")
	case !dot && name == "" && schema != "":
		l.fail(t.Pos(), "table %q has no schema; write it with one, like public.%s", t.Value, display.Name(schema))
	case schema == "" || name == "" || strings.Contains(name, "."):
		l.fail(t.Pos(), "table %q: want schema.name with one dot, like public.products", t.Value)
	case strings.ContainsAny(t.Value, "{}"):
		pattern, err := parsePattern(t.Value)
		if err != nil {
			l.fail(t.Pos(), "table %q: %v", t.Value, err)
		}
		l.r.pattern = pattern
	}
}

func (l *ruleLoader) ops(ops []strictyaml.Text) {
	valid := []string{cdc.Insert.String(), cdc.Update.String(), cdc.Delete.String()}
	l.r.ops[cdc.Truncate] = true
	if ops == nil {
		l.r.ops = [...]bool{cdc.Insert: true, cdc.Update: true, cdc.Delete: true, cdc.Truncate: true}
		return
	}
	for _, o := range ops {
		i := slices.Index(valid, o.Value)
		switch {
		case o.Value == cdc.Truncate.String():
			l.fail(o.Pos(), "`ops`: a truncate is always handled; remove it here and see `on_truncate`")
		case i < 0:
			l.fail(o.Pos(), "`ops`: %q is not an operation%s", o.Value, strictyaml.DidYouMean(o.Value, valid))
		case l.r.ops[cdc.Insert+cdc.Op(i)]:
			l.fail(o.Pos(), "`ops`: %s is named twice", o.Value)
		default:
			l.r.ops[cdc.Insert+cdc.Op(i)] = true
		}
	}
	if len(ops) == 0 {
		l.fail(l.pos(), "`ops` is empty; remove it for all of insert, update and delete")
	}
}

func (l *ruleLoader) pos() strictyaml.Pos { return strictyaml.Pos{Line: l.r.Line, Column: 1} }

func (l *ruleLoader) templates(kind invalidation.Kind, texts []rawText) {
	for _, text := range texts {
		l.r.values[kind] = append(l.r.values[kind], l.compile(kind, text, "")...)
	}
}

// to reads what is added for single sinks.
func (l *ruleLoader) to(raw *rawTo) {
	if raw.node != nil && len(raw.sinks) == 0 {
		l.fail(raw.node.Key, "`to` is empty; name a sink and its values, or remove it")
	}
	for i := range raw.sinks {
		e := &raw.sinks[i]
		sink := slices.Index(l.names, e.Key)
		if sink < 0 {
			l.fail(e.Pos, "`to`: there is no sink %q%s", e.Key, strictyaml.DidYouMean(e.Key, l.names))
			continue
		}
		if e.Value.f.empty() {
			l.fail(e.Pos, "`to.%s` is empty; name `keys`, `tags` or other values, or remove it", e.Key)
		}
		for _, list := range e.Value.f.lists() {
			for _, text := range list.texts {
				for _, t := range l.compile(list.kind, text, "`to."+e.Key+"`: ") {
					t.only = sink
					l.r.values[list.kind] = append(l.r.values[list.kind], t)
				}
			}
		}
	}
}

// literal checks a fixed value.
func (l *ruleLoader) literal(kind invalidation.Kind, text strictyaml.Text, value string) bool {
	switch {
	case value == "":
		l.fail(text.Pos(), "an empty %s purges nothing; remove it", kind)
	case len(value) > invalidation.MaxValue:
		l.fail(text.Pos(), "the %s is %d bytes long, at most %d are allowed", kind, len(value), invalidation.MaxValue)
	default:
		return true
	}
	return false
}

func (l *ruleLoader) literals(key string, node *strictyaml.Node, raw *rawValues) literals {
	var out literals
	if node == nil {
		return out
	}
	for _, list := range raw.lists() {
		for _, text := range list.texts {
			for _, t := range l.compile(list.kind, text, "`"+key+"`: ") {
				fixed, ok := t.fixed()
				if !ok {
					l.fail(text.Pos(), "`%s`: %s %q reads the row, but here only fixed values can be named", key, list.kind, text.source())
					break
				}
				out.given = true
				out.values[list.kind] = append(out.values[list.kind], []byte(fixed))
			}
		}
	}
	if raw.empty() {
		l.fail(node.Key, "`%s` is empty; name `keys`, `tags` or other values, or remove it", key)
	}
	return out
}
