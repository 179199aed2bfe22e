package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// watch is what the reader needs to know of the rules.
func watch(set *rules.Set) postgres.Watch {
	w := postgres.Watch{Tables: set.Tables(), Reads: set.Columns, Sees: set.Sees, Unfit: func(tables map[cdc.Table]*postgres.TableInfo) []postgres.Problem {
		return status.Unfit(set, tables)
	}}
	if len(set.Patterns()) > 0 {
		w.Matches, w.Nearly = set.Matches, set.Nearly
	}
	return w
}

// liveCatalog is what the database has of the tables that rules watch.
type liveCatalog struct {
	set *rules.Set
	// tables are published, or can be; left says what is in the way of others.
	tables []cdc.Table
	left   []error
	infos  map[cdc.Table]*postgres.TableInfo
}

func readCatalog(ctx context.Context, conn *pgx.Conn, cfg postgres.Config, set *rules.Set) (*liveCatalog, error) {
	c := &liveCatalog{set: set}
	var err error
	c.tables, c.left, err = cfg.Resolve(ctx, conn, watch(set))
	slices.SortFunc(c.tables, func(a, b cdc.Table) int { return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name)) })
	return c, err
}

// empty lists the patterns that match no table.
func (c *liveCatalog) empty() []string {
	patterns := c.set.Patterns()
	if len(c.left) > 0 {
		return nil // those match something, whichever
	}
	for _, t := range c.tables {
		if name, _ := c.set.Named(t); name != t.String() {
			patterns = slices.DeleteFunc(patterns, func(p string) bool { return p == name })
		}
	}
	return patterns
}

// need is what one rule reads of the tables that it watches.
type need struct {
	rules.Need
	pattern bool
	tables  int
	lacking []cdc.Table
}

// lacking finds what rules read and tables do not have, by rule and place: the
// tables of a pattern are alike, and so is what is wrong with them.
func (c *liveCatalog) lacking(wrong func(rules.Need, *postgres.TableInfo) bool) []*need {
	exact := make(map[string]bool)
	for _, r := range c.set.Rules() {
		exact[r.Name] = !strings.ContainsAny(r.Table.String(), "{}")
	}
	var out []*need
	at := make(map[rules.Need]*need)
	for _, t := range c.tables {
		info := c.infos[t]
		if info == nil {
			continue
		}
		needs := c.set.NeedsOf(t)
		for _, of := range info.Ancestors {
			needs = append(needs, c.set.NeedsOf(of)...)
		}
		for _, n := range needs {
			key := n
			key.Table = cdc.Table{}
			if at[key] == nil {
				at[key] = &need{Need: n, pattern: !exact[n.Rule]}
				out = append(out, at[key])
			}
			at[key].tables++
			if wrong(n, info) {
				at[key].lacking = append(at[key].lacking, t)
			}
		}
	}
	return slices.DeleteFunc(out, func(n *need) bool { return len(n.lacking) == 0 })
}

// table names the table that lacks something, or the first of several.
func (n *need) table() string {
	if more := len(n.lacking) - 1; more > 0 {
		return fmt.Sprintf("%s (and %d more)", n.lacking[0], more)
	}
	return n.lacking[0].String()
}

// missingColumns reports columns that rules name and tables of their pattern do
// not have: fatal where none has it, some where the tables differ. A table that a
// rule names exactly is compared when the rules are read with its columns.
func (c *liveCatalog) missingColumns() (some []error, fatal error) {
	var errs strictyaml.Errors
	for _, n := range c.lacking(func(n rules.Need, info *postgres.TableInfo) bool {
		_, found := info.Column(n.Column)
		return !found
	}) {
		if !n.pattern {
			continue
		}
		info := c.infos[n.lacking[0]]
		names := make([]string, len(info.Columns))
		for i, col := range info.Columns {
			names[i] = col.Name
		}
		has := strings.Join(names, ", ")
		for _, l := range c.set.Lookups() {
			if l.Rule == n.Rule {
				names = append(names, l.Name)
			}
		}
		msg := fmt.Sprintf("rule %q: table %s has no column %q; it has %s%s", n.Rule, n.table(), n.Column, has, strictyaml.DidYouMean(n.Column, names))
		if len(n.lacking) < n.tables {
			some = append(some, fmt.Errorf("%s:%d: %s; there it counts as unknown", n.File, n.Line, msg))
			continue
		}
		errs.Addf(n.File, strictyaml.Pos{Line: n.Line, Column: 1}, "%s", msg)
	}
	return some, errs.Err()
}

// typed is what rules are checked against: the tables that they name, and for each
// pattern the first of its tables that has every column that the rules read. The
// others may differ, and a daemon does not stop for one of them.
func (c *liveCatalog) typed() *rules.Catalog {
	lacks := make(map[cdc.Table]bool)
	for _, n := range c.lacking(func(n rules.Need, info *postgres.TableInfo) bool {
		_, found := info.Column(n.Column)
		return !found
	}) {
		for _, t := range n.lacking {
			lacks[t] = true
		}
	}
	infos := make(map[cdc.Table]*postgres.TableInfo)
	for _, t := range c.set.Tables() {
		if c.infos[t] != nil {
			infos[t] = c.infos[t]
		}
	}
	shown := make(map[string]bool)
	for _, t := range c.tables {
		name, _ := c.set.Named(t)
		if c.infos[t] == nil || lacks[t] || shown[name] || !c.set.Matches(t) {
			continue
		}
		shown[name] = true
		infos[t] = c.infos[t]
	}
	return catalogOf(infos)
}

// identities finds tables whose old rows are missing or misread, and tables of a
// pattern that are worse off than the one that check proves.
func (c *liveCatalog) identities() []error {
	var out []error
	for _, t := range c.tables {
		info := c.infos[t]
		if info == nil {
			continue
		}
		if info.Published && !info.Usable {
			out = append(out, info.IdentityFault())
		}
		if info.Differing != "" {
			out = append(out, fmt.Errorf("%s; ALTER TABLE %s REPLICA IDENTITY %s", info.DifferingText(), info.Differing, info.DifferingIdentity))
		}
		if info.UnloggedLeaf != "" {
			out = append(out, fmt.Errorf("partition %s of %s is unlogged, so changes in it are not seen; ALTER TABLE %s SET LOGGED", info.UnloggedLeaf, t, info.UnloggedLeaf))
		}
	}
	shown := c.typed()
	for _, n := range c.lacking(func(n rules.Need, info *postgres.TableInfo) bool {
		col, found := info.Column(n.Column)
		return info.Usable && n.Old && !n.When && !n.HasUnknown && !n.Collapse && found && !col.Identity && shown.Table(info.Table) == nil
	}) {
		out = append(out, fmt.Errorf("%s:%d: rule %q purges by the old %s of %s, which replica identity %s does not carry, so a change of it leaves the old entry in the cache; "+
			"ALTER TABLE %s REPLICA IDENTITY USING INDEX (a unique index with it and the primary key), or REPLICA IDENTITY FULL, or give the rule an `unknown`",
			n.File, n.Line, n.Rule, n.Column, n.table(), c.infos[n.lacking[0]].Identity, n.lacking[0]))
	}
	return out
}

// ambiguous finds captures that are columns, too: once for each rule and name.
func (c *liveCatalog) ambiguous() []error {
	var out []error
	told := make(map[string]bool)
	for _, t := range c.tables {
		info := c.infos[t]
		if info == nil || len(c.set.Patterns()) == 0 {
			continue
		}
		rel := &cdc.Relation{Schema: t.Schema, Name: t.Name}
		for _, col := range info.Columns {
			rel.Columns = append(rel.Columns, cdc.Column{Name: col.Name})
		}
		plan := c.set.Bind(rel)
		if plan == nil {
			continue
		}
		for _, p := range plan.Problems() {
			if key := strings.ReplaceAll(p.Error(), t.String(), ""); !told[key] {
				told[key] = true
				out = append(out, p)
			}
		}
	}
	return out
}
