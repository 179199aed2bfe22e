package stream

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// lacks is a batch of a template whose values could not be built, so many seconds after noon.
func lacks(sink, template string, seconds, count int) *invalidation.Batch {
	b := keyed(sink, "", 0)
	b.Stamp.FirstCommit = noon.Add(time.Duration(seconds) * time.Second)
	b.Items = []invalidation.Item{{Rule: "r", Unbuilt: []invalidation.Unbuilt{{Template: template, Of: invalidation.Tag, Count: count}}}}
	return b
}

func listed(t *testing.T, s *Stream, sink string) (out []ParkedBatch) {
	t.Helper()
	require.NoError(t, s.ListParked(t.Context(), sink, func(p ParkedBatch) bool {
		out = append(out, p)
		return true
	}))
	return out
}

var errLacks = errors.New("values could not be built")

// There is one item for each sink, rule and template, whose count rises.
func TestUnbuiltIsOneItem(t *testing.T) {
	dir := t.TempDir()
	s, stop := openIn(t, dir, Config{MaxBytes: 16 << 20})
	for n := range 100 {
		require.NoError(t, s.Park(t.Context(), lacks("edge", "p-{slug}", n, 3), errLacks))
	}
	require.NoError(t, s.Park(t.Context(), keyed("edge", "k", 0), errors.New("refused")))
	require.NoError(t, s.Park(t.Context(), lacks("edge", "q-{slug}", 0, 1), errLacks))
	require.NoError(t, s.Park(t.Context(), lacks("other", "p-{slug}", 0, 1), errLacks))
	counts, err := s.Parked(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{"edge": 3, "other": 1}, counts)
	list := listed(t, s, "edge")
	require.Equal(t, []invalidation.Unbuilt{{Template: "p-{slug}", Of: invalidation.Tag, Count: 300}}, list[0].Batch.Items[0].Unbuilt)
	require.Equal(t, noon, list[0].Batch.Stamp.FirstCommit, "since the first of them")
	require.Equal(t, "values could not be built", list[0].Error)
	stop()

	// It is known after a restart, and so is one that a crash left there twice.
	s, stop = openIn(t, dir, Config{MaxBytes: 16 << 20})
	defer stop()
	_, err = s.storeParked(t.Context(), lacks("edge", "p-{slug}", 0, 301), noon, "values could not be built")
	require.NoError(t, err)
	require.NoError(t, s.Park(t.Context(), lacks("edge", "p-{slug}", 500, 4), errLacks))
	list = listed(t, s, "edge")
	require.Len(t, list, 3)
	require.Equal(t, 305, list[2].Batch.Items[0].Unbuilt[0].Count)
	oldest, err := s.OldestParked(t.Context(), "edge")
	require.NoError(t, err)
	require.Equal(t, noon, oldest, "though it is stored behind others")

	// There is nothing to retry; dropped, it begins again.
	id := list[2].ID
	require.ErrorIs(t, s.RetryParked(t.Context(), id), ErrNoValues)
	require.Len(t, listed(t, s, "edge"), 3)
	require.NoError(t, s.DropParked(t.Context(), id))
	require.Len(t, listed(t, s, "edge"), 2)
	require.NoError(t, s.Park(t.Context(), lacks("edge", "p-{slug}", 500, 2), errLacks))
	list = listed(t, s, "edge")
	require.Equal(t, 2, list[2].Batch.Items[0].Unbuilt[0].Count)

	// Another process that led meanwhile counts on with the same item.
	other, err := OpenOn(t.Context(), s.js, s.cfg)
	require.NoError(t, err)
	require.NoError(t, other.Park(t.Context(), lacks("edge", "p-{slug}", 500, 5), errLacks))
	require.NoError(t, s.Park(t.Context(), lacks("edge", "p-{slug}", 500, 1), errLacks))
	list = listed(t, s, "edge")
	require.Len(t, list, 3)
	require.Equal(t, 8, list[2].Batch.Items[0].Unbuilt[0].Count)
}
