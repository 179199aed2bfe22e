package draft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

type drafter struct {
	opts  Options
	names names
}

// parent is what a foreign key becomes in a draft.
type parent struct {
	word    string
	columns []Column
	// lists is the word for this table's rows in the parent's list.
	lists string
}

func (p *parent) key() string {
	return p.word + ":" + join(p.columns, value, ":") + ":" + p.lists
}

func (p *parent) tag() string { return p.word + "-" + join(p.columns, value, "-") }

func join(columns []Column, form func(Column) string, between string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = form(c)
	}
	return strings.Join(out, between)
}

// rule makes the rule of a table, or says why it has no rule.
func (d *drafter) rule(t *Table) (*rule, *leftOut) {
	without := func(why, fix string) (*rule, *leftOut) {
		return nil, &leftOut{table: t.Table, why: why, fix: fix}
	}
	if t.Trouble != "" {
		return without(t.Trouble, t.Fix)
	}
	if strings.ContainsAny(t.Schema+t.Name, ".{}") {
		return without("a dot or a brace in its name, which the `table` of a rule cannot hold", "")
	}
	key, why := t.key()
	parents, notes := d.parents(t)
	parents = append(parents, d.labels(t)...)
	if why != "" {
		return without(why, t.FullSQL())
	}
	if len(key) == 0 && len(parents) == 0 {
		return without("nothing tells its rows apart, and it refers to no other table", t.KeySQL())
	}
	r := &rule{name: d.names.rules[t.Table], table: t.String()}
	joined := t.joins()
	if len(key) > 0 && !joined {
		r.add(d.opts, d.names.words[t.Table]+":"+join(key, value, ":"), d.names.words[t.Table]+"-"+join(key, value, "-"))
	}
	var exact, coarse []parent
	for _, p := range parents {
		if slices.ContainsFunc(p.columns, func(c Column) bool { return !c.Carried }) {
			coarse = append(coarse, p)
			continue
		}
		exact = append(exact, p)
		r.add(d.opts, p.key(), p.tag())
	}
	switch {
	case joined && len(exact) > 0:
		r.comments = append(r.comments, "A join table: a change of it is one of what it joins, "+wordsOf(exact)+".")
	case len(exact) > 0:
		r.comments = append(r.comments, fmt.Sprintf("By %s it also belongs to %s, whose lists are purged too.", columnsOf(exact, nil), wordsOf(exact)))
	}
	r.comments = append(r.comments, notes...)
	if len(coarse) > 0 {
		d.coarse(t, r, coarse)
	}
	if len(r.keys)+len(r.tags) == 0 {
		return without("old rows in the log lack "+columnsOf(coarse, lacking)+", so a change could not be traced to "+wordsOf(coarse), t.FullSQL())
	}
	return r, nil
}

// add adds a key and a tag, each once.
func (r *rule) add(opts Options, key, tag string) {
	if opts.Keys && !slices.Contains(r.keys, key) {
		r.keys = append(r.keys, key)
	}
	if opts.Tags && !slices.Contains(r.tags, tag) {
		r.tags = append(r.tags, tag)
	}
}

// coarse adds the parents that an old row does not name. A tag that pages of all
// of them carry can stand in for theirs; nothing could stand in for a key.
func (d *drafter) coarse(t *Table, r *rule, parents []parent) {
	var later rule
	for _, p := range parents {
		later.add(Options{Keys: d.opts.Keys}, p.key(), "")
		r.add(Options{Tags: d.opts.Tags}, "", p.tag())
	}
	missing := columnsOf(parents, lacking)
	say := func(format string, args ...any) { r.comments = append(r.comments, fmt.Sprintf(format, args...)) }
	say("It also belongs to %s, but old rows in the log lack %s (replica identity %s).", wordsOf(parents), missing, t.Identity)
	if d.opts.Tags {
		r.unknown = r.name
		say("UPDATE and DELETE therefore purge the tag %q too: put it on every page that shows such rows.", r.unknown)
	}
	switch {
	case d.opts.Tags && d.opts.Keys:
		say("For exact purges, by key as well, run this, then take `unknown` out and add the keys:")
	case d.opts.Tags:
		say("For exact purges run this, then take `unknown` out:")
	default:
		say("No key can stand in for their lists. To purge them run this, then add the keys:")
	}
	say("  %s", t.FullSQL())
	if d.opts.Keys {
		say("  %s", list("keys", later.keys))
	}
}

// key is what tells rows apart in old rows too; why is set where the log does
// not carry it.
func (t *Table) key() (key []Column, why string) {
	names := t.Key
	if len(names) == 0 && t.Identity == cdc.IdentityIndex {
		for _, c := range t.Columns {
			if c.Carried {
				names = append(names, c.Name)
			}
		}
	}
	for _, name := range names {
		c := t.column(name)
		switch {
		case c.Generated:
			return nil, "its key has the generated column " + name + ", which is not in the log"
		case !c.Carried:
			return nil, fmt.Sprintf("its primary key has %s, which old rows in the log lack (replica identity %s)", name, t.Identity)
		}
		key = append(key, c)
	}
	return key, ""
}

func (t *Table) column(name string) Column {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return Column{Name: name}
	}
	return t.Columns[i]
}

// parents resolves the foreign keys; notes tell of those that cannot be used.
func (d *drafter) parents(t *Table) (out []parent, notes []string) {
	for _, f := range t.Foreign {
		p := parent{word: d.names.words[f.Parent], lists: d.names.rules[t.Table]}
		names := f.Columns
		if ordered := f.inOrder(); ordered != nil {
			names = ordered
		} else {
			p.word += "_" + slug(strings.Join(f.Referenced, "_"))
			notes = append(notes, fmt.Sprintf("%s is what %s refers to, which is not the key of %s.", strings.Join(f.Referenced, ", "), strings.Join(f.Columns, ", "), f.Parent))
		}
		generated := ""
		for _, name := range names {
			c := t.column(name)
			if c.Generated {
				generated = name
			}
			p.columns = append(p.columns, c)
		}
		if generated != "" {
			notes = append(notes, fmt.Sprintf("It also belongs to %s, by a generated column that is not in the log: %s.", p.word, generated))
			continue
		}
		if other := t.otherSide(f); other != nil {
			p.lists = d.names.rules[*other]
		}
		out = append(out, p)
	}
	return out, notes
}

// labels are the arrays of a table: each element is something that has a list of rows.
func (d *drafter) labels(t *Table) (out []parent) {
	for _, c := range t.Columns {
		if !c.Labels || c.Generated || slices.Contains(t.Key, c.Name) {
			continue
		}
		p := parent{word: singular(slug(c.Name)), columns: []Column{c}, lists: d.names.rules[t.Table]}
		for _, word := range d.names.words {
			if word == p.word {
				p.word = d.names.words[t.Table] + "_" + p.word
				break
			}
		}
		out = append(out, p)
	}
	return out
}

// inOrder puts the columns into the order of the parent's key, so that all
// that refers to a row names it alike; nil if they refer to something else.
func (f *Foreign) inOrder() []string {
	if len(f.ParentKey) != len(f.Referenced) || len(f.Columns) != len(f.Referenced) {
		return nil
	}
	out := make([]string, 0, len(f.Columns))
	for _, k := range f.ParentKey {
		i := slices.Index(f.Referenced, k)
		if i < 0 {
			return nil
		}
		out = append(out, f.Columns[i])
	}
	return out
}

// joins reports whether the table is nothing but a link between others: all its
// columns are of foreign keys, apart from dates about the link.
func (t *Table) joins() bool {
	if len(t.Foreign) < 2 {
		return false
	}
	for _, c := range t.Columns {
		refers := slices.ContainsFunc(t.Foreign, func(f Foreign) bool { return slices.Contains(f.Columns, c.Name) })
		date := c.Type == "date" || strings.HasPrefix(c.Type, "timestamp")
		if !refers && (!date || slices.Contains(t.Key, c.Name)) {
			return false
		}
	}
	return true
}

// otherSide is what a table that links two others links f's parent with.
func (t *Table) otherSide(f Foreign) *cdc.Table {
	if !t.joins() || len(t.Foreign) != 2 || t.Foreign[0].Parent == t.Foreign[1].Parent {
		return nil
	}
	for i := range t.Foreign {
		if t.Foreign[i].Parent != f.Parent {
			return &t.Foreign[i].Parent
		}
	}
	return nil
}

func lacking(c Column) bool { return !c.Carried }

// columnsOf names the columns of foreign keys, each once; only those that keep
// wants, if it is given.
func columnsOf(parents []parent, keep func(Column) bool) string {
	var out []string
	for _, p := range parents {
		for _, c := range p.columns {
			if (keep == nil || keep(c)) && !slices.Contains(out, c.Name) {
				out = append(out, c.Name)
			}
		}
	}
	return strings.Join(out, ", ")
}

func wordsOf(parents []parent) string {
	var out []string
	for _, p := range parents {
		if !slices.Contains(out, p.word) {
			out = append(out, p.word)
		}
	}
	if n := len(out); n > 1 {
		return strings.Join(out[:n-1], ", ") + " and " + out[n-1]
	}
	return strings.Join(out, "")
}
