package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// ReadReplica returns the configuration for a read replica at a URL. What the URL leaves
// out is filled as for the primary; the password file is the same, unless the URL has
// a password.
func (c Config) ReadReplica(url string) (ReadReplica, error) {
	own := Config{URL: url}
	cfg, err := own.parse()
	if err != nil {
		return ReadReplica{}, fmt.Errorf("postgres.replicas: %w", err)
	}
	if cfg.Password == "" {
		own.PasswordFile = c.PasswordFile
	}
	return ReadReplica{own, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))}, nil
}

// ReadReplica says how to reach a read replica. Name is host and port.
type ReadReplica struct {
	config Config
	Name   string
}

// Connect opens an ordinary connection, whatever the server is.
func (s ReadReplica) Connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := s.config.parse()
	if err != nil {
		return nil, err
	}
	cfg.ValidateConnect = prepareSession
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, s.config.explain(err)
	}
	return conn, nil
}

// Owner asks the primary which database a stream of it belongs to.
func (c Config) Owner(ctx context.Context) (cdc.Owner, error) {
	conn, err := c.Connect(ctx)
	if err != nil {
		return cdc.Owner{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var o cdc.Owner
	err = conn.QueryRow(ctx, "SELECT system_identifier::pg_catalog.text, oid FROM pg_catalog.pg_control_system(), pg_catalog.pg_database WHERE datname = pg_catalog.current_database()").
		Scan(&o.SystemID, &o.Database)
	return o, err
}
