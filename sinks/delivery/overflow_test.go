package delivery

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// share bounds a world's backlog to some messages. What is unacknowledged is what
// was pushed and is above the newest acknowledgement.
type share struct {
	mu     sync.Mutex
	w      *world
	full   bool
	stored []uint64
}

func (w *world) share(messages int64) *share {
	s := &share{w: w}
	w.cfg.Overflow = Overflow{
		MaxBacklog: messages,
		Backlog: func(context.Context) (int64, error) {
			w.src.mu.Lock()
			defer w.src.mu.Unlock()
			n, floor := int64(0), uint64(0)
			for _, seq := range w.src.acks {
				floor = max(floor, seq)
			}
			for _, m := range w.src.messages {
				if m.Seq > floor {
					n++
				}
			}
			return n, nil
		},
		StoreFlush: func(context.Context) (uint64, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.full {
				return 0, errors.New("no room")
			}
			w.src.mu.Lock()
			seq := w.src.messages[len(w.src.messages)-1].Seq + 1
			w.src.mu.Unlock()
			w.src.push(flush(seq, "overflow"))
			s.stored = append(s.stored, seq)
			return seq, nil
		},
	}
	return s
}

func (s *share) flushes() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

// fill pushes batches and a claim behind each.
func (w *world) fill(from uint64, n int) uint64 {
	for range n {
		w.src.push(batch(from, "k"), claim(from+1, 1))
		from += 2
	}
	return from
}

var dead = func([]invalidation.Invalidation) error { return sinks.LaneError(errDown) }

func TestABacklogPastItsShareIsTradedForAFlush(t *testing.T) {
	for _, pace := range []time.Duration{0, time.Minute} {
		inBubble(t, func(t *testing.T, w *world) {
			w.cfg.FlushPace = pace
			s := w.share(100)
			w.sink.answers(dead)
			w.run()
			defer w.halt()
			next := w.fill(1, 40)
			after(time.Minute)
			require.Empty(t, s.flushes(), "within its share")
			next = w.fill(next, 40)
			after(time.Minute)
			require.Equal(t, []uint64{next}, s.flushes())
			require.Equal(t, next-1, w.src.newest(), "what the flush replaces is given up")
			require.Zero(t, w.purged(), "but no claim is believed")
			require.Zero(t, w.settled())
			for seq := next + 1; len(s.flushes()) < 3; {
				w.fill(seq, 10)
				after(30 * time.Second)
				w.src.mu.Lock()
				seq = w.src.messages[len(w.src.messages)-1].Seq + 1
				w.src.mu.Unlock()
			}
			last := s.flushes()[2]
			require.GreaterOrEqual(t, w.src.newest(), last-1, "a newer one replaces those before")
			require.Zero(t, w.purged())
			w.src.push(batch(last+50, "new"), claim(last+51, 1))
			before := len(w.sink.at("*"))
			w.sink.answers(nil)
			after(10 * time.Minute)
			require.Equal(t, cdc.LSN(last+51), w.purged())
			require.Equal(t, cdc.LSN(last+51), w.settled())
			require.LessOrEqual(t, len(w.sink.at("*"))-before, 1, "one flush")
			require.Contains(t, w.taken(), "new")
		})
	}
}

func TestAnOwedFlushOutlivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Overflow.PendingFlush = 5
		w.src.push(batch(3, "old"), claim(4, 1), flush(5, "overflow"), batch(6, "new"), claim(7, 1))
		w.src.read = 0
		g := w.gated()
		g.open(4)
		w.run()
		defer w.halt()
		after(time.Second)
		require.Empty(t, w.sink.values())
		require.Zero(t, w.purged(), "the claim before the flush is not believed")
		require.Equal(t, uint64(4), w.src.newest())
		never := func(ctx context.Context, _ uint64) error { return nil }
		waits, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, w.lane.Past(waits, batch(4, "x"), PurgedOrDeferred, never), "what waits for this lane waits for the flush")
		g.open(9)
		after(time.Second)
		require.Equal(t, cdc.LSN(7), w.purged())
		require.NoError(t, w.lane.Past(t.Context(), batch(4, "x"), PurgedOrDeferred, never))
		require.InDelta(t, 1, w.metric("flushes_total", "overflow"), 0)
		require.Empty(t, w.sink.at("old"))
	})
}

// The lane may read the flush, and begin it early, before it is told what that stands
// for.
func TestAFlushThatRanEarlyStandsForTheBacklog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.share(100)
		g := w.gated()
		w.cfg.Gates[0].Ordered = true
		store := w.cfg.Overflow.StoreFlush
		w.cfg.Overflow.StoreFlush = func(ctx context.Context) (uint64, error) {
			seq, err := store(ctx)
			for len(w.sink.at("*")) == 0 {
				time.Sleep(time.Second)
			}
			return seq, err
		}
		w.run()
		defer w.halt()
		next := w.fill(1, 60)
		after(2 * time.Minute)
		require.Equal(t, []uint64{next}, s.flushes())
		require.Equal(t, next-1, w.src.newest(), "the gate is closed, and what waits for it is given up")
		require.Len(t, w.sink.at("*"), 1, "early")
		require.Zero(t, w.purged())
		g.open(next)
		after(time.Minute)
		require.Equal(t, next, w.src.newest())
		require.Len(t, w.sink.at("*"), 2, "and behind the gate")
	})
}

func TestAPausedLaneIsTraded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.share(100)
		w.run()
		defer w.halt()
		w.lane.Pause()
		after(time.Second)
		next := w.fill(1, 60)
		after(time.Minute)
		require.Equal(t, []uint64{next}, s.flushes())
		require.Equal(t, next-1, w.src.newest())
		require.Empty(t, w.sink.values())
		w.lane.Resume()
		after(time.Minute)
		require.Equal(t, next, w.src.newest())
		require.Len(t, w.sink.at("*"), 1)
	})
}

func TestALaneThatStopsAtItsShare(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.share(100)
		w.cfg.Overflow.Stop = true
		w.sink.answers(dead)
		w.run()
		defer w.halt()
		next := w.fill(1, 60)
		after(time.Minute)
		w.sink.answers(nil)
		after(time.Minute)
		require.Equal(t, Blocked, w.lane.Status().State)
		require.Contains(t, w.lane.Status().Err, "walpurge resume --sink cache")
		require.Empty(t, w.src.acked())
		w.lane.Resume()
		after(time.Minute)
		require.Equal(t, OK, w.lane.Status().State)
		require.Equal(t, next-1, w.src.newest())
		require.Empty(t, w.sink.at("*"))
	})
}

func TestAFlushThatCannotBeStoredIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.share(100)
		s.full = true
		w.sink.answers(dead)
		w.run()
		defer w.halt()
		w.fill(1, 60)
		after(time.Minute)
		require.Empty(t, w.src.acked(), "nothing is given up before the flush is durable")
		s.mu.Lock()
		s.full = false
		s.mu.Unlock()
		after(time.Minute)
		require.Len(t, s.flushes(), 1)
		require.NotZero(t, w.src.newest())
	})
}
