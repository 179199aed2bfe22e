package app

import (
	"context"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cmd/admin"
)

// signOfLife is how long a server may take to answer the smallest question.
const signOfLife = 3 * time.Second

// silent returns which of the servers that a call needs gives no sign of life, or nil.
func (a *App) silent(ctx context.Context, needs admin.Servers) error {
	ctx, cancel := context.WithTimeout(ctx, signOfLife)
	defer cancel()
	if needs.Stream {
		if _, err := a.stream.Last(ctx); err != nil {
			return a.streamSilent(err)
		}
	}
	if needs.Database {
		conn, err := a.cfg.Postgres.Connect(ctx)
		if err == nil {
			err = conn.Ping(ctx)
			_ = conn.Close(ctx)
		}
		if err != nil {
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
	}
	return nil
}

// streamSilent names the server that holds the stream.
func (a *App) streamSilent(err error) error {
	if a.cfg.NATS.Embedded() {
		return fmt.Errorf("the embedded stream in data_dir does not answer: %w", err)
	}
	return fmt.Errorf("the NATS server at %s does not answer: %w", display.Address(a.cfg.NATS.URL), display.Redact(err, a.cfg.NATS.URL))
}
