package integration

import (
	"context"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/harness/edge"
)

// writer inserts categories until it is stopped or the server fails, and counts
// the commits that it was told of: ids 0 to committed.
type writer struct {
	committed atomic.Int64
	stop      context.CancelFunc
	done      chan struct{}
}

func (r *rig) writeOn(from, rows int) *writer {
	ctx, cancel := context.WithCancel(r.t.Context())
	w := &writer{stop: cancel, done: make(chan struct{})}
	w.committed.Store(int64(from))
	go func() {
		defer close(w.done)
		for n := from; n < from+rows && ctx.Err() == nil; n++ {
			if _, err := r.db.Exec(ctx, "INSERT INTO categories (id) VALUES ($1)", n); err != nil {
				return
			}
			w.committed.Store(int64(n + 1))
		}
	}()
	return w
}

// end stops the writer and returns how many rows are known to be committed.
func (w *writer) end() int {
	w.stop()
	<-w.done
	return int(w.committed.Load())
}

// categoryKeys fills Valkey with the keys of n categories.
func (r *rig) categoryKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "category:" + strconv.Itoa(i)
	}
	r.fill(keys)
	return keys
}

// TestFastStopOfTheServer stops PostgreSQL as `pg_ctl stop -m fast` does while
// the daemon is attached: it must end whatever the sinks do, and nothing may be lost over
// it. A connection that is kept would hold it up for ever; that it is let go of within a
// second or two is TestSessionEndsWithItsServer's.
func TestFastStopOfTheServer(t *testing.T) {
	t.Parallel()
	const rows = 4000
	for _, c := range []struct {
		name  string
		extra string
		sick  func(r *rig)
		heal  func(r *rig)
		load  bool
	}{
		{name: "idle"},
		{name: "load", load: true},
		{name: "Valkey stopped", load: true,
			sick: func(r *rig) { require.NoError(r.t, syscall.Kill(r.vk.PID(), syscall.SIGSTOP)) },
			heal: func(r *rig) { require.NoError(r.t, syscall.Kill(r.vk.PID(), syscall.SIGCONT)) }},
		{name: "edge fails", load: true,
			sick: func(r *rig) { r.edge.Inject(-1, edge.Fault{Kind: edge.ServerError}) },
			heal: func(r *rig) { r.edge.Heal() }},
		{name: "confirmed when purged", extra: "stream: {confirm: purged}", load: true,
			sick: func(r *rig) { require.NoError(r.t, syscall.Kill(r.vk.PID(), syscall.SIGSTOP)) },
			heal: func(r *rig) { require.NoError(r.t, syscall.Kill(r.vk.PID(), syscall.SIGCONT)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			r.extra = c.extra
			d := r.start()
			d.wait(r.lsn(), 30*time.Second)
			keys := r.categoryKeys(rows)
			if c.sick != nil {
				c.sick(r)
			}
			committed := 0
			var w *writer
			if c.load {
				w = r.writeOn(0, rows)
				eventually(t, 30*time.Second, func() bool { return w.committed.Load() > 300 }, "rows are written")
			} else {
				r.exec("INSERT INTO categories (id) VALUES (0)")
				committed = 1
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			took, err := r.pg.Stop(ctx, harness.Fast)
			require.NoError(t, err)
			t.Logf("the server ended after %s", took)
			if w != nil {
				committed = w.end()
			}
			if c.heal != nil {
				c.heal(r)
			}
			r.restart()
			d.untilStreaming()
			r.exec("INSERT INTO categories (id) VALUES (1000000)")
			d.wait(r.lsn(), 30*time.Second)
			require.Empty(t, r.held(keys[:committed]...), "of %d", committed)
			d.term()
		})
	}
}
