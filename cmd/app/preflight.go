package app

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// preflight compares the rules with the live catalog before anything is
// created. A database that does not answer is left to the reader, which waits
// for it.
func (a *App) preflight(ctx context.Context, set *rules.Set) error {
	conn, err := a.cfg.Postgres.Connect(ctx)
	if err != nil {
		if isFault(err) {
			return err
		}
		a.log.Warn("the database does not answer, waiting for it", "err", err)
		return nil
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := a.cfg.Postgres.Ready(ctx, conn, set.Tables()); err != nil {
		return err
	}
	infos, err := postgres.Inspect(ctx, conn, a.cfg.Postgres.Publication, set.Tables())
	if err != nil {
		return err
	}
	unusable, other := unfitLookups(ctx, conn, set)
	for _, err := range other {
		a.log.Warn("a lookup may leave stale entries", "err", err)
	}
	return errors.Join(missingColumns(set, infos), unusable.Err())
}

func isFault(err error) bool {
	var f *postgres.Fault
	var m *postgres.Missing
	return errors.As(err, &f) || errors.As(err, &m)
}

// missingColumns reports columns that rules name and tables do not have.
func missingColumns(set *rules.Set, infos map[cdc.Table]*postgres.TableInfo) error {
	var errs strictyaml.Errors
	for _, n := range set.Needs() {
		info := infos[n.Table]
		if info == nil {
			continue
		}
		if _, found := info.Column(n.Column); found {
			continue
		}
		names := make([]string, len(info.Columns))
		for i, c := range info.Columns {
			names[i] = c.Name
		}
		for _, l := range set.Lookups() {
			if l.Rule == n.Rule {
				names = append(names, l.Name)
			}
		}
		errs.Addf(n.File, strictyaml.Pos{Line: n.Line, Column: 1}, "rule %q: table %s has no column %q; it has %s%s",
			n.Rule, n.Table, n.Column, strings.Join(names[:len(info.Columns)], ", "), strictyaml.DidYouMean(n.Column, names))
	}
	return errs.Err()
}

// Setup creates what the pipeline needs in the database, or only returns the
// statements. Unlike a running daemon it also narrows the publication.
func Setup(ctx context.Context, cfg postgres.Config, set *rules.Set, apply bool) ([]postgres.Step, error) {
	conn, err := cfg.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	steps, err := cfg.Plan(ctx, conn, set.Tables())
	if err != nil {
		return nil, err
	}
	extra, err := cfg.Extra(ctx, conn, set.Tables())
	if err != nil {
		return nil, err
	}
	steps = append(extra, steps...)
	if !apply {
		return steps, nil
	}
	return steps, postgres.Apply(ctx, conn, steps)
}

// Drop removes slot and publication.
func Drop(ctx context.Context, cfg postgres.Config) error {
	conn, err := cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer func(conn *pgx.Conn) { _ = conn.Close(context.WithoutCancel(ctx)) }(conn)
	return cfg.Drop(ctx, conn)
}
