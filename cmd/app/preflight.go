package app

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// What a preflight logs as conditions, since a reload may be tried again and again; see package
// condition.
var (
	noDatabase  = condition.Text{Level: slog.LevelWarn, On: "the database does not answer, waiting for it"}
	leftOut     = condition.Text{Level: slog.LevelError, On: "tables that a pattern matches are not published"}
	noTable     = condition.Text{Level: slog.LevelWarn, On: "no table matches the pattern yet"}
	unfit       = condition.Text{Level: slog.LevelError, On: "tables do not fit their rules"}
	staleLookup = condition.Text{Level: slog.LevelWarn, On: "a lookup may leave stale entries"}
)

// preflight reads the rules and compares them with the live catalog before
// anything is created. A database that does not answer is left to the reader, which
// waits for it; the types of columns are then not known, which no rule needs.
func (a *App) preflight(ctx context.Context, cfg *config.Config) (*rules.Set, [][]invalidation.Invalidation, error) {
	set, plans, err := loadRules(cfg, nil)
	if err != nil {
		return nil, nil, err
	}
	conn, err := a.cfg.Postgres.Connect(ctx)
	if err != nil {
		if isFault(err) {
			return nil, nil, err
		}
		a.conditions.At(noDatabase).Observe("err", err)
		return set, plans, nil
	}
	defer conn.Close(context.WithoutCancel(ctx))
	cat, err := readCatalog(ctx, conn, a.cfg.Postgres, set)
	if err != nil {
		return nil, nil, err
	}
	if n := len(cat.left); n > 0 {
		a.conditions.At(leftOut).Observe("count", n, "err", cat.left[0])
	}
	for _, p := range cat.empty() {
		a.conditions.At(noTable, "table", p).Observe()
	}
	if err := a.cfg.Postgres.Ready(ctx, conn, cat.tables, watch(set)); err != nil {
		return nil, nil, err
	}
	if cat.infos, err = postgres.Inspect(ctx, conn, a.cfg.Postgres.Publication, cat.tables); err != nil {
		return nil, nil, err
	}
	some, fatal := cat.missingColumns()
	if n := len(some); n > 0 {
		a.conditions.At(unfit).Observe("count", n, "err", some[0])
	}
	unusable, other := unfitLookups(ctx, a.cfg.Postgres, set)
	for _, err := range other {
		a.conditions.At(staleLookup, "err", err.Error()).Observe()
	}
	set, plans, err = loadRules(cfg, cat.typed())
	return set, plans, errors.Join(fatal, err, unusable.Err())
}

func isFault(err error) bool {
	var f *postgres.Fault
	var m *postgres.Missing
	return errors.As(err, &f) || errors.As(err, &m)
}

// Setup creates what the pipeline needs in the database, or only returns the
// statements. Unlike a running daemon it also narrows the publication. Tables
// that patterns match and that must not be published are left out, and left says
// why.
func Setup(ctx context.Context, cfg postgres.Config, set *rules.Set, apply bool) (steps []postgres.Step, left []error, err error) {
	conn, err := cfg.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if steps, left, err = cfg.Setup(ctx, conn, watch(set)); err != nil {
		return nil, left, err
	}
	if !apply {
		return steps, left, nil
	}
	return steps, left, cfg.Apply(ctx, conn, steps)
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
