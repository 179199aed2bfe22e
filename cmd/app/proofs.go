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
				found = append(found, func(offer string) error {
					return fmt.Errorf("%s:%d: rule %q reads the new %s of %s (%s), of which PostgreSQL sends no value over about 2 kB with an UPDATE that leaves it as it was, "+
						"unless the replica identity carries it, and %s does not; %s",
						n.File, n.Line, n.Rule, n.Column, name, col.Type, table.Identity, offer)
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
		c.findings = append(c.findings, Finding{Note: true, Text: fmt.Sprintf(
			"%s:%d: rule %q: where %s %q cannot be built, `unknown` purges %s at %s, which does not remove what %q names; "+
				"name a tag, a generation or a prefix that covers it, or write `covers: true` in `unknown` if it does",
			u.File, u.Line, u.Rule, u.Kind, u.Template, strings.Join(u.Names, ", "), u.Sink, u.Template)})
	}
}

// tooLong notes templates whose values may be longer than a sink takes. That loses no purge, so it
// is no finding: something coarser is purged then, or an item is parked, which status and alerts
// tell.
func (c *checker) tooLong(set *rules.Set, catalog *rules.Catalog) {
	for _, t := range set.TooLong(catalog) {
		after := fmt.Sprintf("one item is then parked at %s, until somebody has purged what the template names", t.Sink)
		if !t.Fallback.Parked() {
			after = fmt.Sprintf("%s is then purged there, at most once a minute", t.Fallback.Value)
		}
		c.findings = append(c.findings, Finding{Note: true, Text: fmt.Sprintf(
			"%s:%d: rule %q: %s %q reads %s and may be longer than %s takes (%d bytes); %s; give the rule an `unknown` for %s, or hash the column in the rule and in the application alike, like {md5(...)}",
			t.File, t.Line, t.Rule, t.Kind, t.Template, strings.Join(t.Reads, ", "), t.Sink, t.Cap, after, t.Sink)})
	}
}
