package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// A gate that stays closed does not let a message pass the gates behind it.
func TestAnEarlyPurgeWaitsForTheOtherGates(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		closed, second, third := newGate(), newGate(), newGate()
		w.cfg.Gates = []Gate{{Name: "visible", Wait: closed.Wait}, {Name: "replicas", Wait: second.Wait}, {Name: "cache", Wait: third.Wait, Ordered: true}}
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(59 * time.Second)
		require.Empty(t, w.sink.values(), "the patience with the second gate begins when that with the first has ended")
		second.open(1)
		after(29 * time.Second)
		require.Empty(t, w.sink.values(), "the third is closed")
		third.open(1)
		after(0)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.Empty(t, w.src.acked())
		closed.open(1)
		after(0)
		require.Equal(t, [][]string{{"a"}, {"a"}}, w.sink.values())
		require.Equal(t, uint64(2), w.src.newest())
	})
}

func TestEachGateHasItsPatience(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Gates = []Gate{{Name: "visible", Wait: newGate().Wait}, {Name: "replicas", Wait: newGate().Wait}}
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(59 * time.Second)
		require.Empty(t, w.sink.values())
		after(time.Second)
		require.Equal(t, [][]string{{"a"}}, w.sink.values(), "both stay closed")
		require.InDelta(t, 1, w.metric("gate_timeouts_total", "visible"), 0)
		require.InDelta(t, 1, w.metric("gate_timeouts_total", "replicas"), 0)
	})
}

// Two replicas that are down, beside one that lives, cost the patience with one.
func TestMembersThatAreDownShareThePatience(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, member := range []string{"one", "two"} {
			w.cfg.Gates = append(w.cfg.Gates, Gate{Name: "replicas", Member: member, Wait: newGate().Wait})
		}
		w.cfg.Gates = append(w.cfg.Gates, Gate{Name: "replicas", Member: "three", Wait: func(context.Context, invalidation.Message) error { return nil }})
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(30*time.Second - 1)
		require.Empty(t, w.sink.values())
		after(shortWait + 1)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.InDelta(t, 1, w.metric("gate_timeouts_total", "replicas"), 0, "they have one name, and this is one purge")
	})
}

// A shutdown ends the wait for a gate behind one that stays closed.
func TestStopDuringTheWaitForAnotherGate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.gated()
		w.gated()
		w.run()
		w.src.push(batch(1, "a"), batch(2, "b"))
		after(30*time.Second + time.Millisecond)
		w.halt()
		require.Empty(t, w.sink.values())
		require.Empty(t, w.src.acked())
	})
}

// inner is the lane of a world as a gate of another, which waits for the same closed gate.
func (w *world) inner() Gate {
	never := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }
	past := func(until Until) func(context.Context, invalidation.Message) error {
		return func(ctx context.Context, m invalidation.Message) error { return w.lane.Past(ctx, m, until, never) }
	}
	return Gate{Name: "cache", Wait: past(Purged), Brief: past(PurgedOrDeferred), Early: past(PurgedOnce), Ordered: true}
}

// While a gate of both stays closed, each change is purged early at the inner lane first, and the outer
// one does not wait for longer than that. Once it opens the order is the same.
func TestEarlyPurgesKeepTheOrderOfLanes(t *testing.T) {
	for name, of := range map[string]func(m invalidation.Message){
		"keys":  func(invalidation.Message) {},
		"every": func(m invalidation.Message) { every(m, time.Minute) },
		"flush": func(m invalidation.Message) { m.Batch.Flush, m.Batch.Origin = true, invalidation.FromGap },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				outer := newWorld(t)
				visible := w.gated()
				w.sink.takes = time.Second // the inner sink is slow
				w.run()
				defer w.halt()
				outer.cfg.Name, outer.cfg.Gates = "edge", []Gate{{Name: "visible", Wait: visible.Wait}, w.inner()}
				outer.run()
				defer outer.halt()
				for xid := uint64(1); xid <= 20; xid++ {
					for i, src := range []*source{w.src, outer.src} { // one stream
						m := batch(2*xid-1+uint64(i), "a")
						m.Batch.Stamp.XIDs = []uint64{xid}
						of(m)
						src.push(m)
					}
				}
				w.src.push(claim(41, 1))
				outer.src.push(claim(41, 1))
				calls := func(w *world) (at []time.Time) {
					w.sink.mu.Lock()
					defer w.sink.mu.Unlock()
					for _, c := range w.sink.calls {
						at = append(at, c.at)
					}
					return at
				}
				after(30*time.Second + 500*time.Millisecond)
				require.Len(t, calls(w), 1)
				require.Empty(t, calls(outer), "the inner purge is under way")
				after(time.Minute)
				require.NotEmpty(t, calls(outer))
				early := len(calls(outer))
				require.GreaterOrEqual(t, calls(outer)[0].Sub(calls(w)[0]), time.Second)
				require.Empty(t, outer.src.acked())
				visible.open(40)
				after(5 * time.Minute)
				require.Greater(t, len(calls(outer)), early, "it is repeated")
				in, out := calls(w), calls(outer)
				require.False(t, out[len(out)-1].Before(in[len(in)-1].Add(time.Second)), "the outer repeat comes last")
				require.Equal(t, uint64(41), w.src.newest())
				require.Equal(t, uint64(41), outer.src.newest())
			})
		})
	}
}

// Of two read replicas one is down and one 150 ms behind: each purge waits for the one that lives.
func TestAMemberThatIsDownLeavesTheOthersTheirPatience(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		down := newGate()
		open := func(_ context.Context, m invalidation.Message) error {
			time.Sleep(time.Until(m.Batch.Stamp.FirstCommit.Add(150 * time.Millisecond)))
			return nil
		}
		w.cfg.Gates = []Gate{{Name: "replicas", Member: "one", Wait: down.Wait}, {Name: "replicas", Member: "two", Wait: open}}
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(time.Minute)
		require.Equal(t, []string{"replicas"}, w.lane.Status().Gates)
		for seq := uint64(2); seq <= 50; seq++ {
			began := time.Now()
			w.src.push(batch(seq, "a"))
			after(149 * time.Millisecond)
			require.Len(t, w.sink.values(), int(seq-1))
			after(time.Second)
			w.sink.mu.Lock()
			require.Equal(t, 150*time.Millisecond, w.sink.calls[seq-1].at.Sub(began))
			w.sink.mu.Unlock()
		}
		require.InDelta(t, 50, w.metric("gate_timeouts_total", "replicas"), 0)
		require.InDelta(t, 50, w.metric("gate_wait_seconds", "replicas"), 0, "of early purges; the others still wait")
		down.open(50)
		after(time.Second)
		require.Equal(t, uint64(50), w.src.newest())
		require.Empty(t, w.lane.Status().Gates)
	})
}
