package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/router/lookup"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// unfitLookups has the server look at every lookup: unusable are those that it
// could never answer, other what a human or a rule has to mend.
func unfitLookups(ctx context.Context, cfg postgres.Config, set *rules.Set) (unusable strictyaml.Errors, other []error) {
	if len(set.Lookups()) == 0 {
		return nil, nil
	}
	conn, err := cfg.ConnectReading(ctx)
	if err != nil {
		return nil, []error{fmt.Errorf("lookups: %w", err)}
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, l := range set.Lookups() {
		sources, err := lookup.Inspect(ctx, conn, l)
		var p *lookup.Problem
		switch {
		case errors.As(err, &p) && !p.Forbidden:
			unusable.Addf(l.File, l.At(p.Offset), "rule %q: lookup %q: %s", l.Rule, l.Name, p.Text)
		case p != nil:
			other = append(other, fmt.Errorf("%s:%d: rule %q: lookup %q: %s; GRANT SELECT ON what it reads TO %s, or its values are always unknown",
				l.File, l.Line, l.Rule, l.Name, p.Text, pgx.Identifier{conn.Config().User}.Sanitize()))
		case err != nil:
			other = append(other, fmt.Errorf("%s:%d: rule %q: lookup %q: %w", l.File, l.Line, l.Rule, l.Name, err))
		}
		for _, s := range sources {
			switch {
			case !s.Changes:
				other = append(other, fmt.Errorf("%s:%d: rule %q: lookup %q reads %s, whose changes cannot be watched, so one of it leaves the old entry in the cache; read the tables behind it",
					l.File, l.Line, l.Rule, l.Name, s.Table))
			case !set.Matches(s.Table):
				other = append(other, fmt.Errorf("%s:%d: rule %q: lookup %q reads %s, which no rule watches, so a change of it leaves the old entry in the cache; add a rule with table: %s",
					l.File, l.Line, l.Rule, l.Name, s.Table, s.Table))
			}
		}
	}
	return unusable, other
}

// shadowed finds lookups that are called like a column of their rule's table: a
// value that meant a field of that column would be asked for instead. Of the
// tables of a pattern the first that has such a column is named.
func (c *liveCatalog) shadowed() (errs []error) {
	told := make(map[*rules.Lookup]bool)
	for _, t := range c.tables {
		info := c.infos[t]
		if info == nil {
			continue
		}
		for _, r := range c.set.RulesOf(t) {
			for _, l := range c.set.Lookups() {
				if _, column := info.Column(l.Name); !column || l.Rule != r.Name || told[l] {
					continue
				}
				told[l] = true
				errs = append(errs, fmt.Errorf("%s:%d: rule %q: lookup %q is called like a column of %s, which {%s...} does not mean; rename the lookup, and write {row.%s...} for the column",
					l.File, l.Line, l.Rule, l.Name, t, l.Name, l.Name))
			}
		}
	}
	return errs
}
