package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
)

// prove finds values that a rule purges by and that the stream will not carry,
// where the rule has no unknown: for them. identities says how a table can be
// helped; it is nil where no database can be asked, and what it returns may be nil
// for a table that another finding is about.
func (c *checker) prove(set *rules.Set, catalog *rules.Catalog, identities func(cdc.Table) (*postgres.Identities, error)) {
	for _, name := range catalog.Tables() {
		table := catalog.Table(name)
		needs := set.NeedsOf(name)
		var found []func(offer string) error
		for _, n := range needs {
			col, exists := table.Column(n.Column)
			switch {
			case !exists || n.When || n.HasUnknown:
			case col.Generated:
				c.add(false, fmt.Errorf("%s:%d: rule %q purges by %s of %s, a generated column, which PostgreSQL does not send; "+
					"compute it in the rule from the columns that it is made of, or give the rule an `unknown`", n.File, n.Line, n.Rule, n.Column, name))
			case n.Old && !col.Identity:
				found = append(found, func(offer string) error {
					return fmt.Errorf("%s:%d: rule %q purges by the old %s of %s, which replica identity %s does not carry, so a change of it leaves the old entry in the cache; %s",
						n.File, n.Line, n.Rule, n.Column, name, table.Identity, offer)
				})
			case large(n, col) && !col.Identity:
				does := "computes with"
				if !n.Large {
					does = "takes the elements of"
				}
				found = append(found, func(offer string) error {
					return fmt.Errorf("%s:%d: rule %q %s the new %s of %s (%s), of which PostgreSQL sends no value over about 2 kB with an UPDATE that leaves it as it was, "+
						"unless the replica identity carries it, and %s does not; %s",
						n.File, n.Line, n.Rule, does, n.Column, name, col.Type, table.Identity, offer)
				})
			}
		}
		if len(found) == 0 {
			continue
		}
		offer, ok := c.offer(table, needs, identities)
		for _, f := range found {
			if ok {
				c.add(false, f(offer))
			}
		}
	}
}

// large reports that an update may leave out a value that a template needs.
func large(n rules.Need, col rules.CatalogColumn) bool {
	return (n.Large || n.Copied && col.IsArray()) && col.Toastable
}

// offer says what can be done, for all rules of the table together.
func (c *checker) offer(table *rules.CatalogTable, needs []rules.Need, identities func(cdc.Table) (*postgres.Identities, error)) (string, bool) {
	var columns []string
	for _, n := range needs {
		col, _ := table.Column(n.Column)
		if lost := !n.When && !n.HasUnknown; (lost || col.Identity) && (n.Old || large(n, col)) && !slices.Contains(columns, n.Column) {
			columns = append(columns, n.Column)
		}
	}
	if identities == nil {
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX (a unique index over NOT NULL columns with %s and the primary key), or REPLICA IDENTITY FULL, "+
			"or give the rule an unknown:", table.Table, strings.Join(columns, ", ")), true
	}
	with, err := identities(table.Table)
	if err != nil || with == nil {
		c.add(false, err)
		return "", false
	}
	offer := with.Offer(columns)
	last := "(b)"
	switch {
	case offer == "":
		return "give the rule an unknown:, something coarser to purge instead", true
	case strings.Contains(offer, "(b)"):
		last = "(c)"
	}
	return fmt.Sprintf("one of, cheapest first: %s %s an unknown: in the rule, something coarser to purge instead", offer, last), true
}

// drift compares the lock file, if there is one, with the live catalog.
func (c *checker) drift(cfg *config.Config, set *rules.Set, lock, live *rules.Catalog) {
	if lock == nil {
		return
	}
	for _, d := range lock.Drift(live, set) {
		c.add(false, errors.New(lock.File+": "+d+"; rule tests are not about this database any more: walpurge rules lock -c "+cfg.File))
	}
}

// uncovered notes templates whose values `unknown` does not replace at a sink.
func (c *checker) uncovered(set *rules.Set) {
	for _, u := range set.Uncovered() {
		if c.warmed(u.Sink) {
			continue
		}
		c.note(fmt.Sprintf(
			"%s:%d: rule %q: where %s %q cannot be built, `unknown` purges %s at %s, which does not remove what %q names; "+
				"name a tag, a generation or a prefix that covers it, or write `covers: true` in `unknown` if it does",
			u.File, u.Line, u.Rule, u.Kind, u.Template, strings.Join(u.Names, ", "), u.Sink, u.Template))
	}
}

// unfiltered notes conditions that read old values which the log does not carry: no purge is lost, but
// they keep nothing back.
func (c *checker) unfiltered(set *rules.Set, catalog *rules.Catalog) {
	for _, name := range catalog.Tables() {
		table := catalog.Table(name)
		type place struct {
			rule, file string
			line       int
		}
		var order []place
		columns := map[place][]string{}
		for _, n := range set.NeedsOf(name) {
			col, found := table.Column(n.Column)
			if !n.When || !n.Old || !found || col.Identity {
				continue
			}
			at := place{n.Rule, n.File, n.Line}
			if columns[at] == nil {
				order = append(order, at)
			}
			columns[at] = append(columns[at], n.Column)
		}
		for _, at := range order {
			c.note(fmt.Sprintf("%s:%d: rule %q: its condition reads the old %s of %s, which replica identity %s does not carry, so it counts as true for each UPDATE where the new row does not decide it, "+
				"and more is purged than need be; ALTER TABLE %s REPLICA IDENTITY FULL, or read the new row only, like new.%s",
				at.file, at.line, at.rule, strings.Join(columns[at], ", "), name, table.Identity, name, columns[at][0]))
		}
	}
}

// compared says which comparisons do not always agree with SQL's. One that cannot be decided counts
// as true, which loses no purge.
func (c *checker) compared(set *rules.Set, catalog *rules.Catalog, collations func(cdc.Table) ([]postgres.Collation, error)) {
	for _, name := range catalog.Tables() {
		all := set.Compared(catalog.Table(name))
		var of []postgres.Collation
		if len(all) > 0 && collations != nil {
			var err error
			of, err = collations(name)
			c.add(false, err)
		}
		for _, one := range all {
			what := "whether it is equal to another"
			if one.Order {
				what = "the order"
			}
			place := fmt.Sprintf("%s:%d: rule %q", one.File, one.Line, one.Rule)
			if one.Undecided {
				c.note(fmt.Sprintf("%s: the text of %s of %s (%s) does not always tell %s as SQL does; where it does not, the comparison counts as true", place, one.Column.Name, name, one.Column.Type, what))
			}
			i := slices.IndexFunc(of, func(co postgres.Collation) bool { return co.Column == one.Column.Name })
			switch {
			case i < 0 || one.Order && one.Undecided:
			case of[i].Loose:
				c.add(false, fmt.Errorf("%s: it compares %s of %s as texts, but its collation %s takes different texts for equal; compare what is the same for these, like lower(%s), or leave the comparison out",
					place, one.Column.Name, name, of[i].Name, one.Column.Name))
			case one.Order:
				c.note(fmt.Sprintf("%s: it orders %s of %s by code points, and SQL by the collation %s", place, one.Column.Name, name, of[i].Name))
			}
		}
	}
}

// tooLong notes templates whose values may be longer than a sink takes. That loses no purge, so it
// is no finding: something coarser is purged then, or an item is parked, which status and alerts
// tell.
func (c *checker) tooLong(set *rules.Set, catalog *rules.Catalog) {
	for _, t := range set.TooLong(catalog) {
		if c.warmed(t.Sink) {
			continue
		}
		after := fmt.Sprintf("one item is then parked at %s, until an operator has purged what the template names", t.Sink)
		if !t.Fallback.Parked() {
			after = fmt.Sprintf("%s is then purged there, at most once a minute", t.Fallback.Value)
		}
		c.note(fmt.Sprintf(
			"%s:%d: rule %q: %s %q reads %s and may be longer than %s takes (%d bytes); %s; give the rule an `unknown` for %s, or hash the column in the rule and in the application alike, like {md5(...)}",
			t.File, t.Line, t.Rule, t.Kind, t.Template, strings.Join(t.Reads, ", "), t.Sink, t.Cap, after, t.Sink))
	}
}
