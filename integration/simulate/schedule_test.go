package simulate

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// judge holds the watermarks against what the oracle knows.
func (w *world) judge(d *daemon) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sinkNames {
		w.marked(s, d.board.Get(watermark.Mark{Stage: watermark.Purged, Target: s}).LSN)
	}
}

// turn is one step of a schedule; it returns the daemon that lives after it.
func (w *world) turn(d *daemon) *daemon {
	switch p := w.steps.IntN(100); {
	case p < 40:
		rows := 1 + w.steps.IntN(5)
		if w.steps.IntN(8) == 0 {
			rows = 100
		}
		w.commit(rows)
	case p < 55:
		w.show(2)
	case p < 58:
		w.manually(sinkNames[w.steps.IntN(len(sinkNames))])
	case p < 62:
		w.pause(d, sinkNames[w.steps.IntN(len(sinkNames))])
	case p < 80:
		time.Sleep(time.Duration(w.steps.IntN(1500)) * time.Millisecond)
	case p < 82:
		w.fell(sinkNames[w.steps.IntN(len(sinkNames))])
	case p < 84: // the log grows by what is not published
		w.grow()
	case p < 88:
		w.mu.Lock()
		d.conn.Close()
		w.mu.Unlock()
	case p < 97:
		return w.crash(d)
	case p < 99:
		d.end(false)
		return w.boot()
	default:
		d.end(w.steps.IntN(2) == 0)
		w.dropSlot()
		return w.boot()
	}
	return d
}

// grow makes the log longer by what is not published.
func (w *world) grow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.db.lsn += 64
	w.wake()
}

// manually purges everything at a sink on an operator's request, mostly in place of its backlog.
func (w *world) manually(sink string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &invalidation.Batch{Sink: sink, Origin: invalidation.FromHand, Flush: true, Reason: invalidation.FlushManual}
	if w.steps.IntN(3) > 0 {
		b.Supersedes = w.disk.files["walpurge_sim"].last()
	}
	w.manual[sink] = append(w.manual[sink], b)
	w.note("a manual purge of %s, in place of all up to %d", sink, b.Supersedes)
	w.wake()
}

// pause holds a lane, or lets it go on.
func (w *world) pause(d *daemon, sink string) {
	if w.steps.IntN(2) == 0 {
		d.running[sink].Pause()
	} else {
		d.running[sink].Resume()
	}
}

// fell lets a sink be dead for a while, or refuse one kind of value.
func (w *world) fell(sink string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuses[sink] = []invalidation.KindSet{^invalidation.KindSet(0), invalidation.Kinds(invalidation.Generation), invalidation.Kinds(invalidation.Key, invalidation.Tag)}[w.steps.IntN(3)]
	w.down[sink] = time.Now().Add(time.Duration(5+w.steps.IntN(60)) * time.Second)
}

// crash kills the daemon between two of its next calls; the power goes with it at times.
func (w *world) crash(d *daemon) *daemon {
	w.mu.Lock()
	w.tally.crashes++
	d.fuse = 1 + w.steps.IntN(60)
	w.mu.Unlock()
	w.commit(1 + w.steps.IntN(3))
	select {
	case <-d.dead:
	case <-time.After(3 * time.Second):
	}
	d.end(true)
	if w.steps.IntN(2) == 0 {
		w.cut()
	}
	return w.boot()
}

// run is one schedule, and then peace: what is left of the work must end.
func (w *world) run() {
	d := w.boot()
	for range 10 + w.steps.IntN(20) {
		synctest.Wait()
		w.judge(d)
		if w.t.Failed() {
			break
		}
		d = w.turn(d)
	}
	w.show(1)
	w.mu.Lock()
	w.calm, w.last = true, w.db.lsn
	w.wake()
	w.mu.Unlock()
	for _, l := range d.running {
		l.Resume()
	}
	for n := range 300 {
		if w.t.Failed() || w.done(d) {
			break
		}
		time.Sleep(time.Second)
		if n%10 == 9 { // a heartbeat
			w.grow()
		}
	}
	if !w.t.Failed() {
		w.judge(d)
		w.whole(d)
	}
	d.end(false)
}

// done reports that nothing is left to do.
func (w *world) done(d *daemon) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sinkNames {
		if len(w.proof.lacks[s]) > 0 || d.board.Get(watermark.Mark{Stage: watermark.Settled, Target: s}).LSN < w.last {
			return false
		}
	}
	return w.db.slot.confirmed >= w.last
}

// whole fails if something was lost, or stands still.
func (w *world) whole(d *daemon) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sinkNames {
		for v, left := range w.proof.lacks[s] {
			w.failf("lost: %s was never purged at %s for transaction %d, which ends at %s", v, s, left[0].txn.xid, left[0].txn.end)
			return
		}
		if p := d.board.Get(watermark.Mark{Stage: watermark.Settled, Target: s}).LSN; p < w.last {
			f := w.disk.files["walpurge_sim"]
			w.failf("stuck: %s has settled %s of %s: lane %+v, it has read %d, acknowledged %d, of %d to %d in the stream",
				s, p, w.last, d.running[s].Status(), d.sources[s].read, d.sources[s].floor, f.first, f.last())
		}
	}
	if w.db.slot.confirmed < w.last {
		w.failf("stuck: confirmed %s of %s", w.db.slot.confirmed, w.last)
	}
}

// seeds are those asked for: one by WALPURGE_SEED, so many by WALPURGE_SEEDS, else as
// many as the suite has time for.
func seeds(t *testing.T) (from, to uint64) {
	number := func(name string) (uint64, bool) {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		if os.Getenv(name) != "" {
			require.NoError(t, err, name)
		}
		return n, err == nil
	}
	if seed, one := number("WALPURGE_SEED"); one {
		return seed, seed + 1
	}
	if n, some := number("WALPURGE_SEEDS"); some {
		return 0, n
	}
	return 0, schedules
}

// Whatever fails, dies or comes late: every committed row has, at every sink that its rule
// names, a purge that began once readers saw the commit and once the inner sink had had
// its own, or a flush, or a parked item; the slot is told of nothing that a power cut could
// take; no gap is seen where there is none; and nothing stands still.
func TestSimulation(t *testing.T) {
	_, err := ruleSet()
	require.NoError(t, err)
	// Every session takes its buffers anew, and there are tens of thousands.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	from, to := seeds(t)
	var mu sync.Mutex
	var sum tally
	t.Run("seeds", func(t *testing.T) {
		shards := uint64(min(4, runtime.GOMAXPROCS(0)))
		for shard := range shards {
			t.Run(strconv.FormatUint(shard, 10), func(t *testing.T) {
				t.Parallel()
				for seed := from + shard; seed < to && !t.Failed(); seed += shards {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, seed)
						w.run()
						mu.Lock()
						defer mu.Unlock()
						sum.add(w.tally)
					})
				}
			})
		}
	})
	t.Logf("%d schedules: %+v", to-from, sum)
	if to-from >= 100 && !t.Failed() {
		n := int(to - from)
		require.Greater(t, sum.commits, 5*n, "the schedules do something")
		require.Greater(t, sum.cuts, n/4)
		require.Greater(t, sum.lost, n/2)
		for what, some := range map[string]int{"gaps": sum.gaps, "full": sum.full, "parked": sum.parked, "trades": sum.trades, "unheard": sum.unheard, "streamed": sum.streamed} {
			require.Positive(t, some, what)
		}
	}
}
