package stream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// What is purged again lies behind what the lane has, each value once; a flush takes its place where the stream
// does not hold all of it.
func TestPurgeAgain(t *testing.T) {
	s, p := filled(t, 4) // batches of the lane are 2, 3, 5 and 6
	c := consumer(t, s, "cache")
	for range 5 {
		next(t, c)
	}
	require.NoError(t, p.Publish(t.Context(), keyed("cache", "3", 0)))
	require.NoError(t, p.Flushed(t.Context()))
	next(t, c)
	last, err := s.Last(t.Context())
	require.NoError(t, err)
	again := func(a Again) Repeated {
		t.Helper()
		a.Sink, a.Reason = "cache", invalidation.FlushRestarted
		r, err := s.PurgeAgain(t.Context(), a)
		require.NoError(t, err)
		return r
	}

	r := again(Again{After: 3, Reach: 3, UpTo: last})
	require.Equal(t, Repeated{Seq: last + 1, Values: 2}, r, "2 and 3, each once")
	m := next(t, c)
	require.Equal(t, last+1, m.Seq)
	require.Equal(t, invalidation.FromGap, m.Batch.Origin)
	require.Equal(t, noon, m.Batch.Stamp.FirstCommit, "it is due since the commit")
	var values []string
	for _, inv := range m.Batch.Invalidations(nil) {
		values = append(values, inv.Value)
	}
	require.Equal(t, []string{"2", "3"}, values)

	require.Equal(t, Repeated{}, again(Again{After: last, Reach: last, UpTo: last}), "nothing was purged since")
	require.True(t, again(Again{Flush: true, UpTo: last}).Flush)
	require.Equal(t, "flush "+invalidation.FlushRestarted, short(next(t, c)))
	last, err = s.Last(t.Context())
	require.NoError(t, err)
	require.True(t, again(Again{After: last - 1, Reach: last - 1, UpTo: last}).Flush, "a flush is among it")
	next(t, c)
	require.NoError(t, s.stream.Purge(t.Context()))
	require.True(t, again(Again{After: 3, Reach: 3, UpTo: last}).Flush, "the stream does not reach back")
}

func TestHistoryIsKept(t *testing.T) {
	s := open(t, Config{})
	r, err := s.History(t.Context(), "cache")
	require.NoError(t, err)
	require.Nil(t, r)
	for _, text := range []string{`{"a":1}`, `{"a":2}`} {
		require.NoError(t, s.StoreHistory(t.Context(), "cache", []byte(text)))
	}
	consumer(t, s, "cache")
	c, err := s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	r, err = s.History(t.Context(), "valkey")
	require.NoError(t, err)
	require.Equal(t, `{"a":2}`, string(r), "the lane of another name knows its cache")
	r, err = s.History(t.Context(), "cache")
	require.NoError(t, err)
	require.Nil(t, r, "a lane that is closed does not")
}
