package app

import (
	"context"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
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
