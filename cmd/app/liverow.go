package app

import (
	"context"
	"log/slog"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/router/lookup"
	"github.com/walpurge/walpurge/rules"
)

// LiveChange reads the one row for which where holds, and returns what the log
// would carry of the operation on it; see postgres.Config.ReadChange.
func LiveChange(ctx context.Context, cfg postgres.Config, table cdc.Table, where string, op cdc.Op) (*cdc.Change, error) {
	conn, err := cfg.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return cfg.ReadChange(ctx, conn, table, where, op)
}

// LiveAnswers returns a function that puts questions of rules to the database as the daemon does:
// read-only, and for as long as the lookup's timeout. Each is put once. end closes its connection.
func LiveAnswers(ctx context.Context, cfg postgres.Config) (answer func(rules.Query) rules.Answer, end func()) {
	resolver := lookup.New(lookup.Config{
		Connect: cfg.ConnectReading,
		Visible: func(context.Context, cdc.Stamp) error { return nil }, // the row was read already
		Logger:  slog.New(slog.DiscardHandler),
	})
	known := make(map[string]rules.Answer)
	return func(q rules.Query) rules.Answer {
		key := q.Lookup.Rule + "\x00" + q.Lookup.Name + "\x00" + strings.Join(q.Args, "\x00")
		a, asked := known[key]
		if !asked {
			a = resolver.Resolve(ctx, cdc.Stamp{}, []rules.Query{q})[0]
			known[key] = a
		}
		return a
	}, func() { resolver.Close(context.WithoutCancel(ctx)) }
}
