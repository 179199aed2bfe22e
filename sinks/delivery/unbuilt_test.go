package delivery

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// lacking is a message with a key, and with what replaces values of two templates that could not be
// built: a pattern, and a template to be parked.
func lacking(seq uint64, key string) invalidation.Message {
	m := batch(seq, key)
	instead := invalidation.Item{Rule: "r", Every: invalidation.FallbackEvery, Unbuilt: []invalidation.Unbuilt{{Template: "p-{slug}", Of: invalidation.Tag, Count: 1}}}
	instead.Values[invalidation.KeyPattern] = []string{"p:*"}
	m.Batch.Items = append(m.Batch.Items, instead)
	return m
}

// 100,000 changes whose values cannot be built cause at most one walk in a minute and one parked
// item. The stream holds the newest of them alone, and the watermark stays before them all.
func TestAStormOfValuesThatCannotBeBuilt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		const perSecond, seconds = 2000, 50
		seq := uint64(0)
		for range seconds {
			var mm []invalidation.Message
			for range perSecond / 2 {
				seq++
				mm = append(mm, lacking(seq, "k"))
				seq++
				mm = append(mm, lacking(seq, "k"), claim(seq+1, 1))
				seq++
			}
			w.src.push(mm...)
			after(time.Second)
			acks := w.src.acked()
			require.Greater(t, acks[len(acks)-1]+8, seq, "the newest holds what the others deferred")
		}
		require.Equal(t, []int{0}, w.sink.at("p:*"), "the first at once, the others a minute later")
		require.Greater(t, cdc.LSN(2*perSecond), w.purged(), "what is deferred is not purged")
		oldest, some := w.lane.Oldest()
		require.True(t, some)
		require.GreaterOrEqual(t, time.Since(oldest), (seconds-1)*time.Second)
		after(time.Minute)
		require.Equal(t, []int{0, 60}, w.sink.at("p:*"), "the last is not forgotten")
		require.Equal(t, cdc.LSN(seq), w.purged())
		acks := w.src.acked()
		require.Equal(t, seq, acks[len(acks)-1])

		count := 0
		for _, b := range w.parked {
			require.Len(t, b.Items, 1, "one for all changes of a turn")
			require.Equal(t, "p-{slug}", b.Items[0].Unbuilt[0].Template)
			require.True(t, b.Unbuilt())
			count += b.Items[0].Unbuilt[0].Count
		}
		require.Equal(t, perSecond*seconds, count)
		require.Equal(t, uint64(1), uint64(w.parked[0].Stamp.Position.LSN), "the lowest of the turn")
	})
}

// What was passed on is purged after a crash.
func TestWhatWasPassedOnOutlivesACrash(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		for seq := uint64(1); seq <= 10; seq++ {
			w.src.push(lacking(seq, "k"))
			after(time.Second)
		}
		require.Equal(t, []int{0}, w.sink.at("p:*"))
		acks := w.src.acked()
		floor := acks[len(acks)-1]
		require.Equal(t, uint64(9), floor)
		w.halt()
		w.src.mu.Lock()
		w.src.read = int(floor)
		w.src.mu.Unlock()
		w.cfg.Metrics = newWorld(t).cfg.Metrics
		w.run()
		defer w.halt()
		after(0)
		require.Equal(t, []int{0, 10}, w.sink.at("p:*"))
	})
}

// The newest claim is not acknowledged before what it claims is purged: after a restart, a lane that
// is past it counts as one that has purged it.
func TestTheNewestClaimWaitsForWhatWasPassedOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(lacking(1, "k"))
		after(time.Second)
		w.src.push(lacking(2, "k"), claim(3, 1), lacking(4, "k"))
		after(time.Second)
		require.Equal(t, uint64(2), w.src.acked()[len(w.src.acked())-1])
		w.src.push(claim(5, 1))
		after(time.Second)
		w.src.push(lacking(6, "k"))
		after(time.Second)
		require.Equal(t, uint64(4), w.src.acked()[len(w.src.acked())-1], "up to the newest claim, and not with it")
		require.Equal(t, cdc.LSN(0), w.purged())
		after(time.Minute)
		require.Equal(t, cdc.LSN(5), w.purged())
		require.Equal(t, uint64(6), w.src.acked()[len(w.src.acked())-1])
	})
}

// A lane that waits for this one does not take an acknowledgement for a purge.
func TestPastWaitsForWhatWasPassedOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(lacking(1, "k"))
		after(time.Second)
		w.src.push(lacking(2, "k"), lacking(3, "k"))
		after(time.Second)
		floor := func(context.Context, uint64) error { return nil } // acknowledged
		outer := func(xid uint64) invalidation.Message {
			m := batch(100, "k")
			m.Batch.Stamp.XIDs = []uint64{xid}
			return m
		}
		require.ErrorIs(t, w.lane.Past(t.Context(), outer(2), PurgedOrDeferred, floor), ErrPutOff)
		require.NoError(t, w.lane.Past(t.Context(), outer(50), PurgedOrDeferred, floor), "of another transaction")
		passed := make(chan error, 1)
		go func() { passed <- w.lane.Past(t.Context(), outer(2), Purged, floor) }()
		after(10 * time.Second)
		require.Empty(t, passed)
		after(time.Minute)
		require.NoError(t, <-passed)
	})
}

// Values with coarser ones, and messages whose other values are to be purged a second time, are
// kept in the stream as they are.
func TestWhatIsNotPassedOn(t *testing.T) {
	for name, change := range map[string]func(w *world, m invalidation.Message) invalidation.Message{
		"coarser": func(_ *world, m invalidation.Message) invalidation.Message {
			m.Batch.Items[1].Coarser = []invalidation.CoarserValues{{Over: 5}}
			return m
		},
		"second purge": func(w *world, m invalidation.Message) invalidation.Message {
			w.cfg.SecondPurge = time.Second
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				m := change(w, lacking(1, "k"))
				w.run()
				defer w.halt()
				w.src.push(m)
				after(5 * time.Second)
				w.src.push(change(w, lacking(2, "k")), change(w, lacking(3, "k")))
				after(5 * time.Second)
				require.Equal(t, uint64(1), w.src.acked()[len(w.src.acked())-1])
				after(2 * time.Minute)
				require.Equal(t, uint64(3), w.src.acked()[len(w.src.acked())-1])
			})
		})
	}
}

// What comes again because its gates were closed is parked once.
func TestUnbuiltIsParkedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		gate := newGate()
		w.cfg.Gates = []Gate{{Name: "visible", Wait: gate.Wait}}
		w.cfg.MaxWait = time.Second
		w.parkErr = []error{errDown, nil}
		w.run()
		defer w.halt()
		w.src.push(lacking(1, "k"))
		after(5 * time.Second)
		require.Equal(t, []string{"k", "p:*"}, slices.Concat(w.sink.values()...), "early")
		require.Empty(t, w.parked)
		gate.open(1)
		after(5 * time.Second)
		require.Len(t, w.parked, 1)
		require.Equal(t, []invalidation.Unbuilt{{Template: "p-{slug}", Of: invalidation.Tag, Count: 1}}, w.parked[0].Items[0].Unbuilt)
		require.Zero(t, w.metric("parked_total", "other"))
	})
}
