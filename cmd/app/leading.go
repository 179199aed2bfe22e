package app

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/stream"
)

// errSuperseded says that another process has opened a newer epoch on the stream that
// both share: it reads the log and works the lanes now.
var errSuperseded = errors.New("another process has taken over the pipeline")

// leads waits until this process may work the lanes, and reports false when the context
// ends before. A stream that is shared has lanes that are shared: they belong to
// whoever reads the log.
func (a *App) leads(ctx context.Context) bool {
	if a.cfg.NATS.Embedded() {
		return true
	}
	select {
	case <-a.pulse.leading:
		return true
	case <-ctx.Done():
		return false
	}
}

// shared is the name of a pipeline whose stream other processes may use, and empty for an embedded one.
func shared(cfg *config.Config) string {
	if cfg.NATS.Embedded() {
		return ""
	}
	return cfg.Pipeline
}

// foreign refuses a shared stream that belongs to another database, before anything of it is changed. A database
// that does not answer is asked again when streaming begins.
func foreign(ctx context.Context, cfg *config.Config, nc *nats.Conn) error {
	if shared(cfg) == "" {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	claim, found, err := stream.Newest(asking, nc, cfg.Pipeline)
	if err != nil || !found {
		return nil // which is for opening the stream to say
	}
	system, err := cfg.Postgres.SystemID(ctx)
	if err != nil {
		return nil
	}
	return router.Foreign(cfg.Pipeline, claim.Position, system, cfg.Formerly)
}

// watchStream returns an error that is stream.ErrGone when the streams or lanes that this process works are gone,
// and nil when the context ends.
func (a *App) watchStream(ctx context.Context) error {
	if !a.leads(ctx) {
		return nil
	}
	return a.stream.Watch(ctx, a.cfg.SinkNames())
}

// epochPause is how often a leader looks for a newer epoch than its own.
const epochPause = time.Second

// watchEpoch returns errSuperseded when another process has taken over, and nil when the
// context ends. A process that stood still, or was cut off from the database, learns it
// so; what it published meanwhile is purged once more, and its claims count for nothing.
func (a *App) watchEpoch(ctx context.Context) error {
	if !a.leads(ctx) {
		return nil
	}
	for {
		select {
		case <-beat.After(epochPause):
		case <-ctx.Done():
			return nil
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		claim, _, found, err := a.stream.LastClaim(asking)
		cancel()
		if err == nil && found && claim.Epoch > a.publisher.Epoch() {
			return errSuperseded
		}
	}
}
