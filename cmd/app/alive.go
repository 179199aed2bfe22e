package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/router"
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

// wedged says why a restart would help, or nil. A reader that does not read
// tries again by itself; one that the stream keeps waiting has a known reason.
func wedged(s postgres.State, blocked string, last, now time.Time) error {
	if !s.Phase.Reads() || blocked != "" {
		return nil
	}
	if s.Since.After(last) {
		last = s.Since
	}
	if idle := now.Sub(last); idle > wedgedAfter {
		return fmt.Errorf("the reader is connected and has taken nothing from its connection for %s", idle.Round(time.Second))
	}
	return nil
}

// stuckAfter is in how many looks in a row, one each second, the router must be found in the same
// evaluation to count as stuck. An evaluation takes milliseconds; looks are counted, and not time, so that
// a machine that was suspended is no alarm.
const stuckAfter = 5

// stall finds a reader that does not move, whose rules evaluate one change without end. It is safe for
// concurrent use.
type stall struct {
	mu    sync.Mutex
	step  router.Step
	looks int
}

// look takes where the router is, and reports whether it is stuck.
func (s *stall) look(step router.Step) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !step.Evaluating || step.Number != s.step.Number {
		s.looks = 0
	}
	s.step = step
	s.looks++
	return s.stuck()
}

func (s *stall) stuck() bool { return s.step.Evaluating && s.looks > stuckAfter }

// why says where the reader is stuck, and is empty if it is not.
func (s *stall) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stuck() {
		return ""
	}
	at := "a change of a large transaction, or a message"
	if s.step.Table != (cdc.Table{}) {
		at = "a change of " + s.step.Table.String()
	}
	tx := fmt.Sprintf("in transaction %d", s.step.XID)
	if s.step.Commit > 0 {
		tx += " that commits at " + s.step.Commit.String()
	}
	return fmt.Sprintf("the rules have been evaluating %s %s for %d s and more", at, tx, stuckAfter)
}

var stuckReader = condition.Text{Level: slog.LevelError, On: "the reader does not move, restart the daemon; if it is stuck there again, walpurge skip --to current", Off: "the reader moves again"}

// watchReader looks for a reader that does not move, until the context ends.
func (a *App) watchReader(ctx context.Context) error {
	for {
		select {
		case <-beat.After(time.Second):
		case <-ctx.Done():
			return nil
		}
		if a.stall.look(a.router.Step()) {
			a.conditions.At(stuckReader).Observe("err", a.stall.why())
		} else {
			a.conditions.At(stuckReader).End()
		}
	}
}

// alive returns why only a restart would help, or nil.
func (a *App) alive() error {
	if why := a.stall.why(); why != "" {
		return errors.New(why)
	}
	last := a.pulse.began.Add(time.Duration(a.pulse.last.Load()))
	return wedged(a.reader.State(), a.publisher.Blocked(), last, time.Now())
}
