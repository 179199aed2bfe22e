package harness

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// cannotConnectNow is the SQLSTATE of a server that starts up, shuts down or
// recovers.
const cannotConnectNow = "57P03"

// ready returns nil when the server answers on its own socket, which no other
// server can do.
func (p *Postgres) ready(ctx context.Context) error {
	conn, err := p.Connect(ctx, "postgres")
	if err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code != cannotConnectNow {
			// It refuses this user or database: it is up.
			return nil
		}
		return err
	}
	return conn.Close(ctx)
}

// Connect opens a connection as postgres over the socket. The caller closes it.
func (p *Postgres) Connect(ctx context.Context, db string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(p.URL(db))
	if err != nil {
		return nil, err
	}
	cfg.Host = p.socketDir
	cfg.Fallbacks = nil
	return pgx.ConnectConfig(ctx, cfg)
}

// Exec runs sql as postgres on a connection of its own. Without args it may
// hold several statements, which are then one transaction unless they say
// otherwise.
func (p *Postgres) Exec(ctx context.Context, db, sql string, args ...any) error {
	conn, err := p.Connect(ctx, db)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	if err != nil {
		err = fmt.Errorf("execute in database %s: %w", db, err)
	}
	return errors.Join(err, conn.Close(ctx))
}

// QueryRow runs a query without arguments as postgres on a connection of its
// own and scans its first row; pgx.ErrNoRows when there is none.
func (p *Postgres) QueryRow(ctx context.Context, db, sql string, dest ...any) error {
	conn, err := p.Connect(ctx, db)
	if err != nil {
		return err
	}
	err = conn.QueryRow(ctx, sql).Scan(dest...)
	if err != nil {
		err = fmt.Errorf("query database %s: %w", db, err)
	}
	return errors.Join(err, conn.Close(ctx))
}
