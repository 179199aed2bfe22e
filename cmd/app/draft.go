package app

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/draft"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// DraftOptions say what a first rules file is about.
type DraftOptions struct {
	Schemas []string
	// Tables are names, or schema.name, in which * stands for any text; none are
	// all tables. One that matches nothing is a *postgres.Missing.
	Tables []string
	Values draft.Options
}

// DraftRules reads the live catalog and writes a first rules file, which the
// loader takes. It changes nothing in the database.
func DraftRules(ctx context.Context, cfg postgres.Config, opts DraftOptions) (draft.Result, error) {
	conn, err := cfg.Connect(ctx)
	if err != nil {
		return draft.Result{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	filter := newTableFilter(opts.Tables)
	found, err := postgres.Schema(ctx, conn, opts.Schemas, filter.keep)
	if err != nil {
		return draft.Result{}, err
	}
	if err := filter.unmatched(opts.Schemas); err != nil {
		return draft.Result{}, err
	}
	tables := make([]draft.Table, len(found))
	for i := range found {
		tables[i] = draftTable(&found[i])
	}
	made := draft.Make(tables, opts.Values)
	every := []rules.SinkSpec{{Name: rules.AnySink, Takes: 1<<invalidation.NumKinds - 1}}
	if _, err := rules.Parse("draft", []byte(made.Text), rules.Options{Sinks: every}); err != nil {
		return draft.Result{}, fmt.Errorf("the draft is not a rules file, which is a fault of walpurge; leave the table out by --tables: %w", err)
	}
	return made, nil
}

// draftTable says of a table of the catalog what a draft needs.
func draftTable(t *postgres.SchemaTable) draft.Table {
	out := draft.Table{Table: t.Table, Key: t.Key, Identity: t.Identity, Partitioned: t.Kind == 'p', FullFails: t.FullFails}
	for _, c := range t.Columns {
		out.Columns = append(out.Columns, draft.Column{Name: c.Name, Type: c.Type, Carried: c.Identity, Generated: c.Generated, Labels: labels(&c.DataType)})
	}
	for _, f := range t.Foreign {
		out.Foreign = append(out.Foreign, draft.Foreign{Columns: f.Columns, Parent: f.Parent, Referenced: f.Referenced, ParentKey: f.ParentKey})
	}
	name := draft.Quote(t.Schema, t.Name)
	switch {
	case t.Kind == 'v':
		out.Trouble = "a view" + behind(t)
	case t.Kind == 'm':
		out.Trouble = "a materialized view" + behind(t) + "; what REFRESH changes is purged by a rule with message: " + postgres.RefreshPrefix +
			", and in the transaction of each REFRESH by"
		out.Fix = postgres.RefreshMessage(t.Table)
	case t.Kind == 'f':
		out.Trouble = "a foreign table; its changes are in the log of another database"
	case !t.Logged:
		out.Trouble, out.Fix = "unlogged, so its changes are not in the log", "ALTER TABLE "+name+" SET LOGGED;"
	case !t.Usable:
		out.Trouble, out.Fix = unusable(t, &out)
	case t.UnloggedLeaf != "":
		out.Trouble, out.Fix = "its partition "+t.UnloggedLeaf+" is unlogged, so changes in it are not in the log", "ALTER TABLE "+t.UnloggedLeaf+" SET LOGGED;"
	case t.Differing != "":
		out.Trouble = "partition " + t.Differing + " has another replica identity than its root, so its old rows would be misread"
		out.Fix = out.FullSQL()
	}
	return out
}

// labels reports that a type is an array of what can name things: texts, whole numbers, UUIDs,
// enums.
func labels(t *cdc.DataType) bool {
	if t.Elem == nil {
		return false
	}
	switch cdc.BuiltinName(t.Elem.OID) {
	case "text", "varchar", "bpchar", "name", "int2", "int4", "int8", "uuid":
		return true
	}
	return t.Elem.Enum || t.Elem.Name == "citext"
}

func behind(t *postgres.SchemaTable) string {
	if len(t.Behind) == 0 {
		return ""
	}
	return "; the tables behind it are " + postgres.JoinTables(t.Behind)
}

// unusable says what keeps a table from being published without harm to the
// application, and what would help.
func unusable(t *postgres.SchemaTable, d *draft.Table) (trouble, fix string) {
	name := draft.Quote(t.Schema, t.Name)
	trouble = "has no replica identity: once published, its UPDATE and DELETE would fail"
	lacking, generated, _ := strings.Cut(t.Lacking, "\t")
	switch {
	case t.Kind == 'p' && lacking != t.String():
		return "its partition " + lacking + " " + trouble, d.FullSQL()
	case generated != "" && t.Identity == cdc.IdentityFull && len(t.Key) > 0:
		return "its replica identity FULL has generated columns: once published, its UPDATE and DELETE would fail", "ALTER TABLE " + name + " REPLICA IDENTITY DEFAULT;"
	case len(t.Key) > 0 && t.Identity != cdc.IdentityDefault:
		return trouble, "ALTER TABLE " + name + " REPLICA IDENTITY DEFAULT;"
	case generated != "":
		return "its replica identity has generated columns: once published, its UPDATE and DELETE would fail", d.FullSQL()
	case len(t.Key) > 0:
		return "its primary key is deferrable, so it " + trouble, d.FullSQL()
	case t.Unique != "":
		return trouble, "ALTER TABLE " + name + " REPLICA IDENTITY USING INDEX " + draft.Quote(t.Unique) + ";"
	}
	return "without a primary key it " + trouble, d.KeySQL() + "\n-- or\n" + d.FullSQL()
}

// tableFilter is the tables that somebody wants to see.
type tableFilter struct {
	patterns []string
	forms    []*regexp.Regexp
	matched  []bool
	seen     []string
}

func newTableFilter(patterns []string) *tableFilter {
	f := &tableFilter{patterns: patterns, matched: make([]bool, len(patterns))}
	for _, p := range patterns {
		f.forms = append(f.forms, regexp.MustCompile(`^(?s:`+strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*")+`)$`))
	}
	return f
}

func (f *tableFilter) keep(t cdc.Table) bool {
	f.seen = append(f.seen, t.Name)
	keep := len(f.forms) == 0
	for i, form := range f.forms {
		if form.MatchString(t.Name) || form.MatchString(t.String()) {
			f.matched[i], keep = true, true
		}
	}
	return keep
}

func (f *tableFilter) unmatched(schemas []string) error {
	i := slices.Index(f.matched, false)
	if i < 0 {
		return nil
	}
	return &postgres.Missing{Fault: postgres.Fault{
		Err: fmt.Errorf("no table is called %q in schema %s%s", f.patterns[i], strings.Join(schemas, ", "), strictyaml.DidYouMean(f.patterns[i], f.seen)),
		Fix: "correct --tables, or name its schema by --schema",
	}}
}
