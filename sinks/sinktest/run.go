package sinktest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
)

// Run holds the sink against every demand. It blocks until all are tried.
func Run(t *testing.T, s Subject) {
	require.True(t, s.Kinds.Has(s.Kind), "Subject.Kind must be one of Subject.Kinds")
	require.Positive(t, s.Limits.Items, "Limits.Items must say how much one call may carry")

	// First, since it counts the goroutines of the whole process: no parallel test runs yet.
	t.Run("close leaves nothing running", s.closes)
	if s.Parallel {
		t.Parallel()
	}
	t.Run("purges what it is given and nothing else", s.purges)
	t.Run("purges again when asked again", s.again)
	t.Run("carries a full call and survives an oversize one", s.sizes)
	t.Run("never takes a kind it cannot carry out as done", s.kinds)
	t.Run("came back with old content", s.cameBack)
	t.Run("hostile values", s.hostile)
	t.Run("any bytes", s.anyBytes)
	t.Run("faults are classed and healed", s.faults)
	t.Run("partial failure by place", s.partial)
	t.Run("one kind refused", s.oneKind)
	t.Run("context", s.context)
	t.Run("rotated secret", s.rotated)
}

func (s Subject) purges(t *testing.T) {
	w := s.start(t)
	n := min(20, s.Limits.Items)
	asked, others := s.values(0, n), s.values(n, 5)
	w.Fill(t, append(append([]string{}, asked...), others...))

	require.NoError(t, w.purge(t, t.Context(), nil), "an empty batch")
	require.NoError(t, w.purge(t, t.Context(), s.batch(asked)))
	w.requireGone(t, asked)
	for _, v := range others {
		require.True(t, w.Held(t, v), "an entry that was not named was purged")
	}

	absent := s.values(n+5, 3)
	require.NoError(t, w.purge(t, t.Context(), s.batch(absent)), "what is not cached is not an error")
	require.NoError(t, w.purge(t, t.Context(), s.batch([]string{others[0], others[0]})), "one value twice")
	w.requireGone(t, others[:1])
}

func (s Subject) again(t *testing.T) {
	w := s.start(t)
	vv := s.values(0, 3)
	for range 3 {
		w.Fill(t, vv)
		require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
		w.requireGone(t, vv)
	}
}

// cameBack demands that a sink which can tell notices that its cache holds again what was purged, and notices
// nothing while that is not so.
func (s Subject) cameBack(t *testing.T) {
	w := s.start(t)
	if w.Snapshot == nil {
		return
	}
	target := history.Target{Kind: "conformance", Parts: map[string]string{"": "backend"}}
	vv := s.values(0, 3)
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
	w.Fill(t, vv)
	comeBack := w.Snapshot(t)
	var r history.Record
	r.Update(target, w.Nodes(t, w.sink), 1, 0, time.Now())
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
	w.requireGone(t, vv)
	require.Equal(t, history.Same, history.Decide(&r, target, w.Nodes(t, w.sink), time.Now()).Answer, "after a purge it is the same cache")

	comeBack(t)
	for _, v := range vv {
		require.True(t, w.Held(t, v), "the backend came back without what was purged")
	}
	d := history.Decide(&r, target, w.Nodes(t, w.sink), time.Now())
	require.NotEqual(t, history.Same, d.Answer, "it came back with what was purged")
	require.LessOrEqual(t, d.After, uint64(1), "what is purged again includes what came back")
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
	w.requireGone(t, vv)
}

func (s Subject) sizes(t *testing.T) {
	w := s.start(t)
	vv := s.values(0, s.Limits.Items+1)
	w.Fill(t, vv)
	full := vv[:s.Limits.Items]
	require.NoError(t, w.purge(t, t.Context(), s.batch(full)), "a call of exactly Limits.Items")
	w.requireGone(t, full)

	w.Fill(t, vv)
	err := w.purge(t, t.Context(), s.batch(vv))
	if err == nil {
		w.requireGone(t, vv)
		return
	}
	// The lane's answer to this class is to split the batch, which mends it.
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Item, class, "an oversize batch is refused as the batch's own fault: %v", err)
}

func (s Subject) kinds(t *testing.T) {
	w := s.start(t)
	v := s.value(0)
	for k := range invalidation.Kind(invalidation.NumKinds) {
		if s.Kinds.Has(k) {
			continue
		}
		w.Fill(t, []string{v})
		inv := invalidation.Invalidation{Kind: k, Value: v, Rule: "conformance"}
		if k == invalidation.Everything {
			inv.Value = ""
		}
		err := w.purge(t, t.Context(), []invalidation.Invalidation{inv})
		if err == nil {
			// A sink may know a way to a kind it does not advertise.
			require.False(t, w.Held(t, v), "kind %s was reported as purged and is still held", k)
			continue
		}
		class, _ := sinks.ClassOf(err)
		require.Contains(t, []sinks.Class{sinks.Item, sinks.Lane}, class,
			"kind %s will never be carried out, trying again is useless: %v", k, err)
	}
}

func (s Subject) context(t *testing.T) {
	w := s.start(t)
	vv := s.values(0, 2)
	w.Fill(t, vv)

	done, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.purge(t, done, s.batch(vv)), context.Canceled, "a context that is over before the call")

	if w.Hang == nil {
		return
	}
	// Once before the sink has ever connected, once in the middle of a call.
	for _, warm := range []bool{false, true} {
		if warm {
			require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		arrived := w.Hang(t)
		go func() {
			<-arrived
			cancel()
		}()
		err := w.purge(t, ctx, s.batch(vv))
		require.ErrorIs(t, err, context.Canceled, "a cancelled call does not wait for the sink's own limit")
		w.Heal(t)
		w.Fill(t, vv)
		require.NoError(t, w.purge(t, t.Context(), s.batch(vv)), "the call after a cancelled one")
		w.requireGone(t, vv)
	}
}

func (s Subject) closes(t *testing.T) {
	w := s.startOnly(t)
	vv := s.values(0, 2)
	w.Fill(t, vv)
	before := goleak.IgnoreCurrent()

	sink, closeSink := w.Open(t)
	closeSink()
	closeSink()
	require.Error(t, sink.Purge(t.Context(), s.batch(vv)), "a closed sink purges nothing")
	w.rested(t, before)

	w.open(t)
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
	w.close()
	w.rested(t, before)

	if len(w.Faults) == 0 {
		return
	}
	w.open(t)
	w.Faults[0].Arm(t)
	require.Error(t, w.purge(t, t.Context(), s.batch(vv)))
	w.close()
	w.Heal(t)
	w.rested(t, before)
}

// rested demands that nothing is running that was not running before.
func (w *watch) rested(t *testing.T, before goleak.Option) {
	t.Helper()
	if w.Rest != nil {
		w.Rest(t)
	}
	// A client library may sleep for a second before it looks whether it was closed.
	for deadline := time.Now().Add(30 * time.Second); goleak.Find(before) != nil && time.Now().Before(deadline); {
	}
	goleak.VerifyNone(t, before)
}
