package replica

import (
	"context"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// mindEvery is how often is looked for replicas that leave or come back.
const mindEvery = 200 * time.Millisecond

// mind lets a replica leave when others have waited for it for too long, and come
// back when it has caught up, until the context ends.
func (g *Gate) mind(ctx context.Context, m *member) {
	for !g.recall(ctx, m) {
		if !nap(ctx, mindEvery) {
			return
		}
	}
	for nap(ctx, mindEvery) {
		var err error
		switch {
		case g.overdue(m):
			err = g.leave(ctx, m)
		case g.caughtUp(m):
			err = g.comeBack(ctx, m)
		}
		if err != nil && ctx.Err() == nil {
			g.conditions.At(notStored, "replica", m.Name).Observe("err", err, "attempts", condition.Sum(1))
			nap(ctx, time.Second)
		}
	}
}

func nap(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// recall learns whether the replica was away when an earlier run ended. Until that
// is known nobody is let past it.
func (g *Gate) recall(ctx context.Context, m *member) bool {
	away, err := g.cfg.Ledger.Away(ctx, m.Name)
	if err != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if away {
		m.away = true
		g.settle()
		g.conditions.At(left, "replica", m.Name).Observe("reason", "it was away when the daemon ended")
	}
	return true
}

// overdue reports that somebody has waited for the replica for too long.
func (g *Gate) overdue(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w := range g.waiting {
		if w.needs(m) && time.Since(w.since) > g.cfg.Leave {
			return true
		}
	}
	return false
}

// leave writes down that the replica is away, and then lets go who waits for it.
func (g *Gate) leave(ctx context.Context, m *member) error {
	if err := g.cfg.Ledger.Left(ctx, m.Name); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m.away = true
	g.settle()
	g.conditions.At(notStored, "replica", m.Name).End()
	g.conditions.At(left, "replica", m.Name).Observe("after", g.cfg.Leave, "err", m.err)
	return nil
}

// caughtUp reports that a replica that is away has come so near to the primary that
// waiting for it will not be in vain: it has replayed what was published a moment ago.
func (g *Gate) caughtUp(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !m.away {
		return false
	}
	if now := time.Now(); now.Sub(m.goalAt) > g.cfg.Leave/4 {
		m.goal, m.goalAt = g.cfg.Board.Get(watermark.Mark{Stage: watermark.Published}), now
	}
	return m.err == nil && m.has(m.goal)
}

// comeBack has purges wait for the replica again, and every sink flushed: the flush
// itself waits for the replica, like everything from now on.
func (g *Gate) comeBack(ctx context.Context, m *member) error {
	g.mu.Lock()
	m.away = false
	g.mu.Unlock()
	if err := g.cfg.Ledger.Returned(ctx, m.Name); err != nil {
		g.mu.Lock()
		m.away = true
		g.mu.Unlock()
		return err
	}
	g.conditions.At(notStored, "replica", m.Name).End()
	g.conditions.At(left, "replica", m.Name).End()
	return nil
}
