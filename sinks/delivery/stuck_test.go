package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// of adds values of a kind to a message.
func of(m invalidation.Message, kind invalidation.Kind, texts ...string) invalidation.Message {
	if len(m.Batch.Items) == 0 {
		m.Batch.Items = []invalidation.Item{{Rule: "r"}}
	}
	m.Batch.Items[0].Values[kind] = texts
	return m
}

var errPlan = sinks.LaneError(errors.New("403: the plan has no purge by tag"))

// refusal refuses all values of some kinds, in one of the ways in which sinks do.
type refusal struct {
	mu    sync.Mutex
	kinds []invalidation.Kind
	// whole: the call fails, and does not say for which of its values.
	whole bool
	err   error
}

func (r *refusal) set(kinds ...invalidation.Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds = kinds
}

func (r *refusal) answer(invs []invalidation.Invalidation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := map[int]error{}
	for i, inv := range invs {
		if slices.Contains(r.kinds, inv.Kind) {
			failed[i] = r.err
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case r.whole || len(failed) == len(invs):
		return r.err
	}
	return &sinks.BatchError{Failed: failed}
}

// eachRefusal runs a test for each way in which a sink can refuse kinds.
func eachRefusal(t *testing.T, f func(t *testing.T, w *world, r *refusal)) {
	for name, c := range map[string]struct{ oneKind, whole bool }{
		"a call has one kind": {oneKind: true}, "a call tells which failed": {}, "a call fails as a whole": {whole: true},
	} {
		for class, err := range map[string]error{"lane": errPlan, "transient": errDown} {
			t.Run(name+", "+class, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					r := &refusal{whole: c.whole, err: err}
					w.cfg.Limits.OneKind = c.oneKind
					w.sink.answers(r.answer)
					f(t, w, r)
				})
			})
		}
	}
}

// taken lists the values that the sink has taken.
func (w *world) taken() (out []string) {
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	for _, c := range w.sink.calls {
		out = append(out, c.taken...)
	}
	return out
}

func TestAStuckKindDoesNotHoldTheOthers(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
		r.set(invalidation.Tag)
		w.run()
		defer w.halt()
		began := time.Now()
		w.src.push(of(batch(1, "a"), invalidation.Tag, "t1"), claim(2, 1))
		after(time.Minute)
		w.src.push(of(batch(3), invalidation.Tag, "t2"), batch(4, "b"), claim(5, 1))
		after(time.Minute)
		require.Subset(t, w.taken(), []string{"a", "b"})
		require.Empty(t, w.parked)
		require.Empty(t, w.src.acked(), "a restart reads them again")
		require.Zero(t, w.purged())
		oldest, some := w.lane.Oldest()
		require.True(t, some)
		require.WithinDuration(t, began, oldest, time.Second) // short: a fake clock

		st := w.lane.Status()
		require.Equal(t, Blocked, st.State)
		require.Len(t, st.Stuck, 1)
		require.Equal(t, invalidation.Tag, st.Stuck[0].Kind)
		require.WithinDuration(t, began, st.Stuck[0].Since, time.Second) // short: a fake clock
		require.Equal(t, 2, st.Stuck[0].Values)
		require.Equal(t, r.err.Error(), st.Stuck[0].Err)
		require.True(t, st.OthersGo)
		require.Contains(t, st.Err, "purges of tags fail since 20")
		require.Contains(t, st.Err, "while other kinds are purged: "+r.err.Error())
		require.InDelta(t, 2, w.metric("stuck", "tag"), 0)

		calls := len(w.sink.values())
		after(10 * time.Minute)
		require.Greater(t, len(w.sink.values())-calls, 30, "it goes on trying")
		require.Less(t, len(w.sink.values())-calls, 200, "with a back-off")

		r.set()
		after(machine.MaxPause)
		require.Subset(t, w.taken(), []string{"a", "b", "t1", "t2"})
		require.EqualValues(t, 5, w.purged())
		require.EqualValues(t, 5, w.src.newest())
		require.Equal(t, OK, w.lane.Status().State)
		require.Empty(t, w.lane.Status().Stuck)
		require.Empty(t, w.lane.Status().Err)
		require.Zero(t, w.metric("stuck", "tag"))
		w.src.push(of(batch(6, "c"), invalidation.Tag, "t3"))
		after(0)
		require.EqualValues(t, 6, w.src.newest(), "at once")
	})
}

// While everything fails nothing is set aside without end: the queue waits, and what it holds is
// counted together later.
func TestASinkThatIsDownHoldsItsQueue(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
		r.set(invalidation.Key, invalidation.Tag, invalidation.Generation)
		w.run()
		defer w.halt()
		many := keys(600)
		for seq := uint64(1); seq <= 600; seq++ {
			m := batch(seq, many[seq-1])
			if seq%3 == 0 {
				m = of(m, invalidation.Tag, "t")
			}
			if seq%5 == 0 {
				m = of(m, invalidation.Generation, "g")
			}
			w.src.push(m)
			if seq%100 == 0 {
				after(time.Second)
			}
		}
		w.src.push(claim(601, 1))
		after(10 * time.Minute)
		stuck := 0
		for _, s := range w.lane.Status().Stuck {
			stuck += s.Values
		}
		require.Less(t, stuck, 300)
		require.False(t, w.lane.Status().OthersGo)
		require.Equal(t, Blocked, w.lane.Status().State)
		require.Empty(t, w.src.acked())
		r.set()
		after(2 * machine.MaxPause)
		require.EqualValues(t, 601, w.purged())
		require.EqualValues(t, 601, w.src.newest())
		require.Equal(t, OK, w.lane.Status().State)
	})
}

// Without another kind nothing is different: the call is repeated as it was.
func TestOneKindAloneIsRepeatedInItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		r := &refusal{err: errPlan}
		r.set(invalidation.Tag)
		w.sink.answers(r.answer)
		w.run()
		defer w.halt()
		for seq := uint64(1); seq <= 100; seq++ {
			w.src.push(of(batch(seq), invalidation.Tag, keys(100)[seq-1]))
			after(time.Second)
		}
		require.Empty(t, w.lane.Status().Stuck)
		for _, v := range w.sink.values() {
			require.Equal(t, []string{"k0"}, v)
		}
		r.set()
		after(machine.MaxPause)
		require.EqualValues(t, 100, w.src.newest())
		require.Len(t, w.sink.values()[len(w.sink.values())-1], 99)
	})
}

// A second kind that fails after the first is stuck beside it; the third one goes on.
func TestTwoKindsAreStuck(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
		w.run()
		defer w.halt()
		r.set(invalidation.Tag)
		w.src.push(of(of(batch(1, "a"), invalidation.Tag, "t1"), invalidation.Generation, "g1"))
		after(time.Minute)
		r.set(invalidation.Tag, invalidation.Generation)
		w.src.push(of(of(batch(2, "b"), invalidation.Tag, "t2"), invalidation.Generation, "g2"), batch(3, "c"), claim(4, 1))
		after(time.Minute)
		w.src.push(batch(5, "d"))
		after(time.Minute)
		require.Subset(t, w.taken(), []string{"a", "b", "c", "d", "g1"})
		require.Len(t, w.lane.Status().Stuck, 2)
		require.True(t, w.lane.Status().OthersGo)
		r.set(invalidation.Tag)
		after(machine.MaxPause)
		require.Contains(t, w.taken(), "g2")
		require.Len(t, w.lane.Status().Stuck, 1)
		require.Zero(t, w.purged())
		r.set()
		after(machine.MaxPause)
		require.EqualValues(t, 4, w.purged())
		require.EqualValues(t, 5, w.src.newest())
	})
}

// A lane that stops with a stuck kind has acknowledged nothing of it; the next one starts over.
func TestARestartKeepsWhatIsStuck(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
		r.set(invalidation.Tag)
		w.src.push(batch(1, "z"), of(batch(2, "a"), invalidation.Tag, "t1"), batch(3, "b"), claim(4, 1))
		w.run()
		after(time.Minute)
		require.Subset(t, w.taken(), []string{"a", "b"})
		w.halt()
		require.LessOrEqual(t, w.src.newest(), uint64(1))
		w.src.read = int(w.src.newest())
		w.run()
		defer w.halt()
		after(time.Minute)
		require.Len(t, w.lane.Status().Stuck, 1)
		r.set()
		after(machine.MaxPause)
		require.Contains(t, w.taken(), "t1")
		require.EqualValues(t, 4, w.purged())
		require.EqualValues(t, 4, w.src.newest())
	})
}

// A flush in place of a backlog, and a manual purge that supersedes it, replace what is stuck.
func TestOtherPurgesReplaceWhatIsStuck(t *testing.T) {
	for name, replace := range map[string]func(w *world, hand *source){
		"overflow": func(w *world, _ *source) {
			w.src.push(flush(3, string(invalidation.FlushOverflow)))
			w.lane.trade(3)
		},
		"supersede": func(w *world, hand *source) {
			m := flush(1, "manual")
			m.Batch.Origin, m.Batch.Supersedes = invalidation.FromHand, 2
			hand.push(m)
			after(time.Second)
			w.src.push(claim(3, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
				hand := &source{grown: make(chan struct{})}
				w.cfg.Hand = hand
				r.set(invalidation.Tag)
				w.run()
				defer w.halt()
				w.src.push(of(batch(1, "a"), invalidation.Tag, "t1"), batch(2, "b"))
				after(time.Minute)
				require.NotEmpty(t, w.lane.Status().Stuck)
				replace(w, hand)
				after(time.Minute)
				require.EqualValues(t, 3, w.src.newest())
				require.Empty(t, w.lane.Status().Stuck)
				require.Equal(t, OK, w.lane.Status().State)
				require.NotContains(t, w.taken(), "t1")
				require.Contains(t, w.taken(), "*")
			})
		})
	}
}

// A flush whose own kind is stuck is not done, and nothing after it counts as purged.
func TestAFlushOfAStuckKindWaits(t *testing.T) {
	for _, pace := range []time.Duration{0, time.Second} {
		eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
			w.cfg.FlushPace = pace
			w.cfg.Flush = func() []invalidation.Invalidation {
				return []invalidation.Invalidation{{Kind: invalidation.Key, Value: "all"}, {Kind: invalidation.Tag, Value: "all"}}
			}
			r.set(invalidation.Tag)
			w.run()
			defer w.halt()
			w.src.push(flush(1, "gap"), batch(2, "a"), claim(3, 1))
			after(time.Minute)
			require.Subset(t, w.taken(), []string{"all", "a"})
			require.Zero(t, w.purged())
			r.set()
			after(machine.MaxPause + 2*time.Second)
			require.EqualValues(t, 3, w.purged())
			require.EqualValues(t, 3, w.src.newest())
		})
	}
}

// What is refused for good at a retry is parked.
func TestWhatIsStuckCanBeParkedLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		r := &refusal{err: errPlan}
		r.set(invalidation.Tag)
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			if err := r.answer(invs); err != nil {
				return err
			}
			return refuses("bad")(invs)
		})
		w.run()
		defer w.halt()
		w.src.push(of(batch(1, "a"), invalidation.Tag, "t1", "bad", "t2"), claim(2, 1))
		after(time.Minute)
		require.Empty(t, w.parked)
		r.set()
		after(machine.MaxPause)
		require.Len(t, w.parked, 1)
		require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.Tag, Value: "bad", Rule: "r"}}, w.parked[0].Invalidations(nil))
		require.EqualValues(t, 1, w.parked[0].Stamp.Position.LSN)
		require.EqualValues(t, 2, w.purged())
	})
}

// With a second purge, a stuck kind is purged twice once it is taken, and does not hold the second
// purges of others.
func TestSecondPurgesOfAStuckKind(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
		w.cfg.SecondPurge = 2 * time.Second
		w.run()
		defer w.halt()
		w.src.push(of(batch(1, "a"), invalidation.Tag, "t1"))
		after(time.Second)
		r.set(invalidation.Tag)
		w.src.push(of(batch(2, "b"), invalidation.Tag, "t2"), batch(3, "c"), claim(4, 1))
		after(time.Minute)
		count := func(v string) (n int) {
			for _, taken := range w.taken() {
				if taken == v {
					n++
				}
			}
			return n
		}
		for v, n := range map[string]int{"a": 2, "b": 2, "c": 2, "t1": 1, "t2": 0} {
			require.GreaterOrEqual(t, count(v), n, v)
		}
		require.Zero(t, w.src.newest())
		r.set()
		after(time.Minute)
		for _, v := range []string{"a", "b", "c", "t1", "t2"} {
			require.GreaterOrEqual(t, count(v), 2, v)
		}
		require.EqualValues(t, 4, w.purged())
		require.EqualValues(t, 4, w.src.newest())
	})
}

// A deferred value of a stuck kind keeps its messages, also those that are acknowledged already.
func TestADeferredValueOfAStuckKind(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world, r *refusal) {
		w.run()
		defer w.halt()
		w.src.push(every(of(batch(1), invalidation.Tag, "t"), 10*time.Second))
		after(time.Second)
		w.src.push(every(of(batch(2), invalidation.Tag, "t"), 10*time.Second), every(of(batch(3), invalidation.Tag, "t"), 10*time.Second), claim(4, 1))
		after(time.Second)
		r.set(invalidation.Tag)
		w.src.push(batch(5, "a"))
		after(time.Minute)
		w.src.push(batch(6, "b"), claim(7, 1))
		after(time.Minute)
		require.Subset(t, w.taken(), []string{"a", "b"})
		require.EqualValues(t, 0, w.purged(), "2 and 3 are not purged")
		r.set()
		after(machine.MaxPause)
		require.EqualValues(t, 7, w.purged())
		require.EqualValues(t, 7, w.src.newest())
	})
}

// An operator ends the wait before a retry.
func TestAnOperatorHastensAStuckKind(t *testing.T) {
	for name, end := range map[string]func(*Lane){"resume": (*Lane).Resume, "reload": (*Lane).Hasten} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				r := &refusal{err: errPlan}
				r.set(invalidation.Tag)
				w.sink.answers(func(invs []invalidation.Invalidation) error {
					err := r.answer(invs)
					if err != nil && len(w.lane.Status().Stuck) > 0 {
						return sinks.ThrottledError(err, time.Hour)
					}
					return err
				})
				w.run()
				defer w.halt()
				w.src.push(of(batch(1, "a"), invalidation.Tag, "t1"))
				after(time.Minute)
				calls := len(w.sink.values())
				w.src.push(batch(2, "b"))
				after(time.Minute)
				require.Equal(t, calls+1, len(w.sink.values()), "the stuck kind was asked to wait, the others were not")
				r.set()
				end(w.lane)
				after(0)
				require.EqualValues(t, 2, w.src.newest())
			})
		})
	}
}

// A paused lane retries nothing.
func TestAPausedLaneRetriesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		r := &refusal{err: errPlan}
		r.set(invalidation.Tag)
		w.sink.answers(r.answer)
		w.run()
		defer w.halt()
		w.src.push(of(batch(1, "a"), invalidation.Tag, "t1"))
		after(time.Minute)
		w.lane.Pause()
		after(time.Second)
		calls := len(w.sink.values())
		after(10 * time.Minute)
		require.Len(t, w.sink.values(), calls)
		require.Equal(t, Paused, w.lane.Status().State)
		r.set()
		w.lane.Resume()
		after(0)
		require.EqualValues(t, 1, w.src.newest())
	})
}

// Transactions that have nothing of the stuck kind go on at the lanes that wait for this one.
func TestOuterLanesWaitOnlyForWhatIsStuck(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		r := &refusal{err: errPlan}
		r.set(invalidation.Tag)
		w.sink.answers(r.answer)
		w.run()
		defer w.halt()
		w.src.push(of(batch(1, "a"), invalidation.Tag, "t1"), batch(3, "b"), batch(5, "c"))
		after(time.Minute)
		never := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
		outer := func(seq, xid uint64, until Until) error {
			m := batch(seq, "page")
			m.Batch.Stamp.XIDs = []uint64{xid}
			return w.lane.Past(t.Context(), m, until, never)
		}
		require.NoError(t, outer(4, 3, Purged), "another transaction")
		require.ErrorIs(t, outer(2, 1, PurgedOrDeferred), ErrPutOff, "the same one")
		passed := make(chan error, 1)
		go func() { passed <- outer(2, 1, Purged) }()
		after(time.Minute)
		require.Empty(t, passed)
		r.set()
		after(machine.MaxPause)
		require.NoError(t, <-passed)
	})
}

// What is set aside is bounded; past that the lane reads no further, and goes on once there is room.
func TestWhatIsSetAsideIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.MaxPutOff = 1 << 19
		r := &refusal{err: errPlan}
		r.set(invalidation.Tag)
		w.sink.answers(r.answer)
		w.run()
		defer w.halt()
		many := keys(16000)
		for seq := uint64(1); seq <= 16000; seq++ {
			w.src.push(of(batch(seq, "a"), invalidation.Tag, many[seq-1]))
			if seq == 1 {
				after(time.Second)
			}
		}
		after(time.Minute)
		stuck := w.lane.Status().Stuck
		require.Len(t, stuck, 1)
		// The bound, and the group of messages that passes it.
		require.Less(t, stuck[0].Values, 4000+machine.MaxGroup)
		require.Greater(t, stuck[0].Values, 500)
		r.set()
		after(time.Minute)
		require.EqualValues(t, 16000, w.src.newest())
	})
}
