package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/router/stream"
)

// pausesUnread is the condition that pauses cannot be read from the stream; see package condition.
var pausesUnread = condition.Text{
	Level: slog.LevelWarn, On: "pauses cannot be read from the stream, so lanes stay as they are", Off: "pauses are read from the stream again",
}

// Pause implements admin.Hand. The request is stored in the stream, so it holds also after a restart, and at the process
// that leads, whichever was asked.
func (a *App) Pause(ctx context.Context, sink string, paused bool, until time.Time) error {
	if err := a.ownStreamOnly(ctx); err != nil {
		return err
	}
	l, err := a.pausable(sink)
	if err != nil {
		return err
	}
	a.pausing.Lock()
	defer a.pausing.Unlock()
	if paused {
		err = a.stream.SetPause(ctx, sink, until)
	} else {
		err = a.stream.ClearPause(ctx, sink)
	}
	if err != nil {
		return err
	}
	if !paused {
		a.log.Info("lane resumed on request", "sink", sink)
		return a.applyPause(ctx, sink, l)
	}
	a.log.Warn("lane paused on request, its invalidations wait", "sink", sink, "until", until)
	return a.applyPause(ctx, sink, l)
}

// pausable is what can be paused: a lane, or a warm sink.
type pausable interface {
	Pause()
	Resume()
	// pauseInForce is where the pause is kept that is in force.
	pauseInForce() *atomic.Pointer[stream.Pause]
}

func (l *lane) pauseInForce() *atomic.Pointer[stream.Pause]     { return &l.paused }
func (w *warmLane) pauseInForce() *atomic.Pointer[stream.Pause] { return &w.paused }

// pausable returns the sink of a name.
func (a *App) pausable(sink string) (pausable, error) {
	if w := a.warm(sink); w != nil {
		return w, nil
	}
	return a.lane(sink)
}

// applyPause makes a lane wait or go on as the stream has it. A request to resume that this process has not seen yet, whichever
// process took it, also ends the wait that a provider asked for. The caller holds pausing.
func (a *App) applyPause(ctx context.Context, sink string, l pausable) error {
	p, paused, err := a.stream.Paused(ctx, sink, time.Now())
	if err != nil {
		return err
	}
	inForce := l.pauseInForce()
	was := inForce.Load()
	switch {
	case paused:
		inForce.Store(&p)
		if was == nil {
			l.Pause()
		}
	case was != nil || p.Request != a.pauseRequests[sink]:
		inForce.Store(nil)
		l.Resume()
	}
	a.pauseRequests[sink] = p.Request
	return nil
}

// applyPauses does it for all lanes.
func (a *App) applyPauses(ctx context.Context) error {
	a.pausing.Lock()
	defer a.pausing.Unlock()
	for _, l := range a.lanes {
		if err := a.applyPause(ctx, l.spec.Name, l); err != nil {
			return err
		}
	}
	for _, w := range a.warms {
		if err := a.applyPause(ctx, w.spec.Name, w); err != nil {
			return err
		}
	}
	return nil
}

// pausePoll is how often the stream is asked for pauses: another process may have taken the request, and they end.
const pausePoll = time.Second

// watchPauses applies pauses until the context ends.
func (a *App) watchPauses(ctx context.Context) error {
	for {
		select {
		case <-beat.After(pausePoll):
		case <-ctx.Done():
			return nil
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := a.applyPauses(asking)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			a.conditions.At(pausesUnread).Observe("err", err)
		default:
			a.conditions.At(pausesUnread).End()
		}
	}
}
