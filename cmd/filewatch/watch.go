package filewatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/walpurge/walpurge/cdc/condition"
)

// Config says what to watch.
type Config struct {
	// Patterns returns the files, as filepath.Glob takes them. It is asked again
	// at every look.
	Patterns func() []string
	// Look is called when something may have changed: after a start, after events
	// and then Quiet without one, at the latest after five times that, and every
	// Poll. It decides by a Digest whether something has.
	Look func(ctx context.Context)
	// Quiet and Poll are one second and half a minute by default.
	Quiet, Poll time.Duration
	Logger      *slog.Logger
}

// Run watches until the context ends, and returns nil. Where the system gives no
// notice of changes, it goes on with Poll alone and says so.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Quiet == 0 {
		cfg.Quiet = time.Second
	}
	if cfg.Poll == 0 {
		cfg.Poll = 30 * time.Second
	}
	late := condition.NewLog(cfg.Logger)
	defer late.Close()
	var events chan fsnotify.Event
	var errs chan error
	w, err := fsnotify.NewWatcher()
	if err != nil {
		cfg.Logger.Warn("changes of files are noticed late, the system gives no notice of them", "err", err, "every", cfg.Poll)
	} else {
		defer func() { _ = w.Close() }()
		events, errs = w.Events, w.Errors
	}
	poll := time.NewTicker(cfg.Poll)
	defer poll.Stop()
	settle(w, cfg, late)
	cfg.Look(ctx)
	var quiet <-chan time.Time
	var latest time.Time
	for {
		select {
		case <-events:
			now := time.Now()
			if quiet == nil {
				latest = now.Add(5 * cfg.Quiet)
			}
			quiet = time.After(min(cfg.Quiet, latest.Sub(now)))
			continue
		case err := <-errs:
			// Anything may have happened.
			cfg.Logger.Debug("events of files were lost", "err", err)
		case <-quiet:
		case <-poll.C:
		case <-ctx.Done():
			return nil
		}
		quiet = nil
		settle(w, cfg, late)
		cfg.Look(ctx)
	}
}

var unwatched = condition.Text{Level: slog.LevelWarn, On: "changes in a directory are noticed late", Off: "changes in a directory are noticed at once again"}

// settle watches the directories as they are now, all anew: a path may lead to
// another directory than before. What happens meanwhile, the look that follows sees.
func settle(w *fsnotify.Watcher, cfg Config, late *condition.Log) {
	if w == nil {
		return
	}
	for _, dir := range w.WatchList() {
		_ = w.Remove(dir) // it may be gone
	}
	for _, dir := range directories(cfg.Patterns()) {
		if err := w.Add(dir); err != nil {
			late.At(unwatched, "dir", dir).Observe("err", err, "every", cfg.Poll)
		} else {
			late.At(unwatched, "dir", dir).End()
		}
	}
}
