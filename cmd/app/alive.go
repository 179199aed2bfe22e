package app

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
)

// pulse notes when the reader last finished what one read of its connection
// brought. A healthy server sends something every second, because the reader
// asks it to.
type pulse struct {
	postgres.Handler
	began time.Time
	// leading is closed when this process has opened an epoch.
	leading chan struct{}
	once    sync.Once
	// last is in nanoseconds after began, by the monotonic clock.
	last atomic.Int64
}

func newPulse(h postgres.Handler) *pulse {
	return &pulse{Handler: h, began: time.Now(), leading: make(chan struct{})}
}

// Start hands on, and notes that this process leads once that is done.
func (p *pulse) Start(ctx context.Context, s cdc.Session) error {
	err := p.Handler.Start(ctx, s)
	if err == nil {
		p.once.Do(func() { close(p.leading) })
	}
	return err
}

// Rest hands on, and notes the time once that is done.
func (p *pulse) Rest(ctx context.Context, r cdc.Rest) error {
	err := p.Handler.Rest(ctx, r)
	p.last.Store(int64(time.Since(p.began)))
	return err
}

// wedgedAfter is twice what the reader itself bears of a silent server before it
// connects again, so only a reader that no longer runs exceeds it.
const wedgedAfter = 2 * time.Minute

// wedged says why a restart would help, or nil. A reader that is not streaming
// tries again by itself; one that the stream keeps waiting has a known reason.
func wedged(s postgres.State, blocked string, last, now time.Time) error {
	if s.Phase != postgres.Streaming || blocked != "" {
		return nil
	}
	if s.Since.After(last) {
		last = s.Since
	}
	if idle := now.Sub(last); idle > wedgedAfter {
		return fmt.Errorf("the reader streams and has taken nothing from its connection for %s", idle.Round(time.Second))
	}
	return nil
}

// alive returns why only a restart would help, or nil.
func (a *App) alive() error {
	last := a.pulse.began.Add(time.Duration(a.pulse.last.Load()))
	return wedged(a.reader.State(), a.publisher.Blocked(), last, time.Now())
}
