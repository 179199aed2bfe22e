package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// member is a replica as the gate knows it. All but wake is guarded by the gate's
// lock.
type member struct {
	Replica
	wake chan struct{}

	replayed cdc.Position
	err      error
	away     bool
	// goal is where it must be to be back, set at goalAt.
	goal   cdc.Position
	goalAt time.Time
}

func (m *member) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// has reports that the replica has replayed a position. Of a position on an older
// timeline what counts is the number: what of it survived lies before the switch.
func (m *member) has(at cdc.Position) bool {
	return m.replayed.SystemID != "" && (m.replayed.SystemID != at.SystemID || m.replayed.LSN >= at.LSN)
}

// Between two looks: while somebody waits, and for the watermark.
const (
	minPause = 500 * time.Microsecond
	maxPause = 20 * time.Millisecond
	idle     = time.Second
)

// follow asks a replica until the context ends.
func (g *Gate) follow(ctx context.Context, m *member) {
	failures := 0
	for ctx.Err() == nil {
		answered, err := g.serve(ctx, m)
		if ctx.Err() != nil {
			return
		}
		failures++
		if answered {
			failures = 0
		}
		g.mu.Lock()
		m.err = err
		g.mu.Unlock()
		if err != nil {
			g.conditions.At(unreachable, "replica", m.Name).Observe("err", err, "attempts", condition.Sum(1))
		}
		select {
		case <-time.After(min(100*time.Millisecond<<min(failures, 6), 5*time.Second)):
		case <-ctx.Done():
		}
	}
}

// serve asks over one connection until that fails. It reports whether the replica has answered on
// it: then the next attempt is the first one.
func (g *Gate) serve(ctx context.Context, m *member) (answered bool, err error) {
	opening, cancel := context.WithTimeout(ctx, 10*time.Second)
	conn, err := m.Connect(opening)
	cancel()
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	pause := minPause
	for {
		needed, err := g.look(ctx, m, conn)
		if err != nil {
			return answered, err
		}
		answered = true
		if pause == minPause {
			g.conditions.At(unreachable, "replica", m.Name).End()
		}
		if !needed {
			pause = minPause
			select {
			case <-m.wake:
			case <-time.After(idle):
			case <-ctx.Done():
				return true, nil
			}
			continue
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		case <-ctx.Done():
			return true, nil
		}
	}
}

// look asks the replica once, lets go whoever that satisfies, and reports whether
// somebody still waits for it.
func (g *Gate) look(ctx context.Context, m *member, conn *pgx.Conn) (needed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	at, err := m.Read(ctx, conn)
	if err != nil {
		return false, err
	}
	if primary := g.cfg.Board.Get(watermark.Mark{Stage: watermark.Received}); primary.SystemID != "" && primary.SystemID != at.SystemID {
		g.mu.Lock()
		m.replayed = cdc.Position{} // what it has replayed says nothing
		g.mu.Unlock()
		return false, fmt.Errorf("it is a replica of another cluster: system id %s, and the primary's is %s", at.SystemID, primary.SystemID)
	}
	g.cfg.Board.Advance(watermark.Mark{Stage: watermark.Replayed, Target: m.Name}, at)
	g.mu.Lock()
	defer g.mu.Unlock()
	m.err = nil
	if at.LSN > m.replayed.LSN || at.SystemID != m.replayed.SystemID {
		m.replayed = at
	}
	g.settle()
	for w := range g.waiting {
		if w.needs(m) {
			return true, nil
		}
	}
	return false, nil
}
