package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
)

// mark is how a schema of ours is told from one that happens to have the name.
const mark = "made by walpurge bench, which removes it"

// makeSchema makes the table, in a schema that must be ours.
func makeSchema(ctx context.Context, conn *pgx.Conn, rows int) error {
	var comment string
	err := conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace WHERE nspname = $1", name).Scan(&comment)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return err
	case comment != mark:
		return fmt.Errorf("there is a schema %s that is not of an earlier run; rename it, or drop it if it is not needed", name)
	}
	for _, sql := range []string{
		"DROP SCHEMA IF EXISTS " + name + " CASCADE",
		"CREATE SCHEMA " + name,
		"COMMENT ON SCHEMA " + name + " IS '" + mark + "'",
		"CREATE TABLE " + name + ".rows (id bigint PRIMARY KEY, version bigint NOT NULL DEFAULT 0, filler text NOT NULL)",
		fmt.Sprintf("INSERT INTO %s.rows (id, filler) SELECT n, pg_catalog.repeat('x', 200) FROM pg_catalog.generate_series(1, %d) n", name, rows),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make schema %s: %w", name, err)
		}
	}
	return nil
}

// clean takes everything away; what is not there is no error.
func clean(ctx context.Context, own *config.Config) error {
	err := app.Drop(ctx, own.Postgres)
	conn, cerr := own.Postgres.Connect(ctx)
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, derr := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE"); derr != nil {
		err = errors.Join(err, fmt.Errorf("drop schema %s: %w", name, derr))
	}
	return err
}
