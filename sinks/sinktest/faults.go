package sinktest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func (s Subject) faults(t *testing.T) {
	w := s.start(t)
	require.NotEmpty(t, w.Faults, "every backend can fail: name at least that it is down")
	vv := s.values(0, 3)
	for _, f := range w.Faults {
		t.Run(f.Name, func(t *testing.T) {
			// Some faults show only on a fresh connection, some only on an old one.
			for _, when := range []string{"fresh", "connected"} {
				if when == "fresh" {
					w.close()
					w.open(t)
				} else {
					require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
				}
				w.Fill(t, vv)
				f.Arm(t)
				err := w.purge(t, t.Context(), s.batch(vv))
				require.Error(t, err, when)
				class, after := sinks.ClassOf(err)
				require.Equal(t, f.Class, class, "%s: %v", when, err)
				if class == sinks.Throttled {
					require.Equal(t, f.After, after, when)
				}
				w.Heal(t)
				require.NoError(t, w.purge(t, t.Context(), s.batch(vv)), "%s: the first call after the fault is over", when)
				w.requireGone(t, vv)
			}
		})
	}
}

func (s Subject) partial(t *testing.T) {
	w := s.start(t)
	if w.Partial == nil {
		return
	}
	batch, want := w.Partial(t)
	w.Fill(t, valuesOf(batch))
	err := w.purge(t, t.Context(), batch)
	var be *sinks.BatchError
	require.True(t, errors.As(err, &be), "some failed and some were carried out: %v", err)
	got := map[int]sinks.Class{}
	for i, ferr := range be.Failed {
		got[i], _ = sinks.ClassOf(ferr)
	}
	require.Equal(t, want, got)
	for i, inv := range batch {
		if _, bad := want[i]; !bad {
			require.False(t, w.Held(t, inv.Value), "place %d was reported as purged and is still held", i)
		}
	}
}

func (s Subject) rotated(t *testing.T) {
	w := s.start(t)
	if w.Rotate == nil {
		return
	}
	vv := s.values(0, 3)
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)))
	next := "rotated-secret-7d793037a076"
	w.secrets = append(w.secrets, next)
	w.Rotate(t, next)
	w.Fill(t, vv)

	// The first call may still find the connection that the rotation broke.
	err := w.purge(t, t.Context(), s.batch(vv))
	if err != nil {
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Transient, class, "%v", err)
		err = w.purge(t, t.Context(), s.batch(vv))
	}
	require.NoError(t, err, "the new secret is read without a restart")
	w.requireGone(t, vv)
}

// oneKind demands that a lane can purge the kinds that a backend takes while it refuses another: what the error of a mixed call
// does not name is carried out, each kind can be purged by itself, and the refusal is no reason to park the value.
func (s Subject) oneKind(t *testing.T) {
	w := s.start(t)
	if w.RefuseKind == nil {
		return
	}
	vv := s.values(0, 3)
	w.Fill(t, vv)
	refused, class := w.RefuseKind(t)
	require.True(t, s.Kinds.Has(refused.Kind))
	require.NotEqual(t, s.Kind, refused.Kind)
	require.NotEqual(t, sinks.Item, class, "what a backend refuses of one kind as a whole is not the value's fault")
	alone := []invalidation.Invalidation{refused}

	last := append(s.batch(vv[:1]), refused)
	first := append(alone, s.batch(vv[1:2])...)
	for _, mixed := range [][]invalidation.Invalidation{last, first} {
		err := w.purge(t, t.Context(), mixed)
		require.Error(t, err, "a call with the refused kind")
		var be *sinks.BatchError
		if !errors.As(err, &be) {
			continue // the lane tries each kind by itself
		}
		for i, inv := range mixed {
			_, failed := be.Failed[i]
			require.Equal(t, inv.Kind == refused.Kind, failed, "place %d of kind %s: %v", i, inv.Kind, err)
			if !failed {
				w.requireGone(t, []string{inv.Value})
			}
		}
	}
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)), "the kind that the backend takes")
	w.requireGone(t, vv)
	err := w.purge(t, t.Context(), alone)
	require.Error(t, err, "the refused kind")
	got, _ := sinks.ClassOf(err)
	require.Equal(t, class, got, "%v", err)

	w.Heal(t)
	w.Fill(t, vv)
	require.NoError(t, w.purge(t, t.Context(), alone), "once the backend takes both")
	require.NoError(t, w.purge(t, t.Context(), s.batch(vv)), "once the backend takes both")
	w.requireGone(t, vv)
	if err := w.purge(t, t.Context(), last); err != nil {
		// A sink may ask for one kind in a call: the lane's answer to this class is to split it.
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Item, class, "a call of two kinds that the backend takes: %v", err)
	}
}
