package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
)

// externalError is why files that are right by themselves could not be put into service: the
// database, the stream's server or a sink refuses, or cannot be reached. Such a reload is tried
// again.
type externalError struct {
	err error
	// stopped: the running pipeline was stopped for the attempt, and opened again.
	stopped bool
}

func (e *externalError) Error() string { return e.err.Error() }
func (e *externalError) Unwrap() error { return e.err }

var (
	retryFails    = condition.Text{Level: slog.LevelError, On: "the reload fails again, trying at each heartbeat", Off: "the reload succeeded"}
	retryObsolete = condition.Text{Level: retryFails.Level, On: retryFails.On, Off: "the reload is not tried again, the files have changed"}
)

// maxRetryPause bounds the pause between attempts that stop the pipeline.
const maxRetryPause = 10 * time.Minute

// retryReloads repeats a reload that failed for a reason outside the files, at each heartbeat, until
// it succeeds or the files change. It returns nil when the context ends.
func (d *Daemon) retryReloads(ctx context.Context) error {
	defer d.conditions.Close()
	for {
		select {
		case <-d.failed:
		case <-ctx.Done():
			return nil
		}
		for again := true; again; {
			select {
			case <-time.After(d.retryPause()):
			case <-ctx.Done():
				return nil
			}
			again = d.retry(ctx)
		}
	}
}

// retryPause is one heartbeat, and longer after attempts that stopped the pipeline: each of them
// delays purges.
func (d *Daemon) retryPause() time.Duration {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	pause := d.opts.Config.Postgres.Heartbeat
	for range d.stops {
		if pause *= 2; pause > maxRetryPause {
			return maxRetryPause
		}
	}
	return pause
}

// retry tries the failed reload once, and reports whether it is to be tried again. Where another
// reload runs, that one decides.
func (d *Daemon) retry(ctx context.Context) (again bool) {
	if !d.reloading.TryLock() {
		return true
	}
	defer d.reloading.Unlock()
	if !d.retrying {
		return false
	}
	if d.files.changed() {
		// Who watches the files, or asks for a reload, takes the new ones.
		d.retrying = false
		d.conditions.At(retryObsolete).End()
		return false
	}
	if err := d.attempt(ctx); err != nil && d.retrying {
		d.conditions.At(retryFails).Observe("err", err, "attempts", condition.Sum(1))
	}
	return d.retrying
}
