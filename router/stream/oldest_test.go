package stream

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOldestParked(t *testing.T) {
	s := open(t, Config{})
	oldest := func(sink string) time.Time {
		at, err := s.OldestParked(t.Context(), sink)
		require.NoError(t, err)
		return at
	}
	require.Zero(t, oldest("edge"))
	require.NoError(t, s.Park(t.Context(), keyed("cache", "other", 0), errors.New("refused")))
	first, second := keyed("edge", "a", 0), keyed("edge", "b", 0)
	second.Stamp.FirstCommit = noon.Add(time.Hour)
	require.NoError(t, s.Park(t.Context(), first, errors.New("refused")))
	require.NoError(t, s.Park(t.Context(), second, errors.New("refused")))
	require.True(t, noon.Equal(oldest("edge")))
	require.NoError(t, s.DropParked(t.Context(), 2))
	require.True(t, noon.Add(time.Hour).Equal(oldest("edge")))
}
