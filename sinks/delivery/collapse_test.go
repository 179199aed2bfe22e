package delivery

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// covered gives a message's first item steps: one tag for each over.
func covered(m invalidation.Message, overs ...int) invalidation.Message {
	for _, over := range overs {
		c := invalidation.CoarserValues{Over: over}
		c.Values[invalidation.Tag] = []string{fmt.Sprintf("past-%d", over)}
		m.Batch.Items[0].Coarser = append(m.Batch.Items[0].Coarser, c)
	}
	return m
}

// counting tells what the lane says of collapsed values.
func (w *world) counting() map[string]int {
	told := map[string]int{}
	w.cfg.Collapsed = func(rule string, values int) { told[rule] += values }
	return told
}

func TestABacklogIsCollapsed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		told := w.counting()
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		w.src.push(batch(1, "first"))
		after(500 * time.Millisecond)
		for seq := uint64(2); seq <= 61; seq++ {
			w.src.push(covered(batch(seq, keys(60)[seq-2]), 50, 70))
		}
		plain := batch(62, "plain")
		plain.Batch.Items[0].Rule = "other"
		w.src.push(plain, claim(63, 1))
		after(time.Minute)
		require.Equal(t, [][]string{{"first"}, {"past-50", "plain"}}, w.sink.values())
		require.Equal(t, map[string]int{"r": 60}, told)
		require.Equal(t, uint64(63), w.src.acked()[len(w.src.acked())-1])
	})
}

func TestARefusedValueTriesItsCollapseOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		told := w.counting()
		w.sink.answers(refuses("k3"))
		w.run()
		defer w.halt()
		w.src.push(covered(batch(1, keys(6)...), 50, 70), claim(2, 1))
		after(0)
		require.Empty(t, w.parked)
		calls := w.sink.values()
		require.Equal(t, 1, len(slices.DeleteFunc(slices.Clone(calls), func(v []string) bool { return !slices.Equal(v, []string{"past-50"}) })), "the first step, once: %v", calls)
		require.Equal(t, uint64(2), w.src.newest())
		require.Equal(t, map[string]int{"r": 1}, told)
	})
}

func TestARefusedCollapseParksTheValue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			for _, inv := range invs {
				if inv.Value == "k1" || inv.Kind == invalidation.Tag {
					return sinks.ItemError(errors.New("bad"))
				}
			}
			return nil
		})
		w.run()
		defer w.halt()
		w.src.push(covered(batch(1, keys(2)...), 50), claim(2, 1))
		after(0)
		require.Len(t, w.parked, 1)
		require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.Key, Value: "k1", Rule: "r"}}, w.parked[0].Invalidations(nil))
		require.Equal(t, uint64(2), w.src.newest())
	})
}

// Many values wait in few or in many messages; never more than there is room for.
func TestTheQueueIsBoundedByValues(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Hour
		w.run()
		large := keys(2000)
		for seq := uint64(1); seq <= 200; seq++ {
			w.src.push(batch(seq, large...))
		}
		after(time.Minute)
		w.src.mu.Lock()
		read := w.src.read
		w.src.mu.Unlock()
		require.LessOrEqual(t, read*2000, machine.MaxValues+maxQueued+3*2000)
		w.cut()
		w.halt()
	})
}
