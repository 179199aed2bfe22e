package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pause belongs to the pipeline: every process that opens the streams finds it.
func TestPauseOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	s, stop := openIn(t, dir, Config{MaxBytes: 16 << 20})
	now := time.Now()
	paused := func(s *Stream, sink string, at time.Time) (Pause, bool) {
		t.Helper()
		p, is, err := s.Paused(t.Context(), sink, at)
		require.NoError(t, err)
		return p, is
	}
	_, is := paused(s, "cache", now)
	require.False(t, is)
	require.NoError(t, s.SetPause(t.Context(), "cache", time.Time{}))
	require.NoError(t, s.SetPause(t.Context(), "edge", now.Add(time.Hour)))
	stop()

	s, stop = openIn(t, dir, Config{MaxBytes: 16 << 20})
	defer stop()
	p, is := paused(s, "cache", now.Add(1000*time.Hour))
	require.True(t, is)
	require.True(t, p.Until.IsZero())
	require.WithinRange(t, p.Since, now.Add(-time.Minute), now.Add(time.Minute))
	p, is = paused(s, "edge", now.Add(59*time.Minute))
	require.True(t, is)
	require.Equal(t, now.Add(time.Hour).UnixMilli(), p.Until.UnixMilli())
	_, is = paused(s, "edge", now.Add(time.Hour))
	require.False(t, is, "it ends by itself")
	before := p.Request
	p, _ = paused(s, "edge", now.Add(time.Hour))
	require.Equal(t, before, p.Request, "its end is no request")
	for range 2 {
		p, _ = paused(s, "cache", now)
		before = p.Request
		require.NoError(t, s.ClearPause(t.Context(), "cache"))
		p, is = paused(s, "cache", now)
		require.False(t, is)
		require.Greater(t, p.Request, before, "each request to resume is one")
	}
}
