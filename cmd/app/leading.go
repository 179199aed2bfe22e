package app

import (
	"context"
	"errors"
	"time"

	"github.com/walpurge/walpurge/cdc/beat"
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
