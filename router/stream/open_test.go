package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// A replica that is behind would say that a lane has no backlog, that there is no
// claim, and that nothing was remembered. An operator may have allowed it to answer.
func TestOnlyTheLeaderIsAsked(t *testing.T) {
	s := open(t, Config{})
	names := []string{streamName("shop"), parkedName("shop"), handName("shop")}
	config := func(name string) jetstream.StreamConfig {
		st, err := s.js.Stream(t.Context(), name)
		require.NoError(t, err)
		return st.CachedInfo().Config
	}
	for _, name := range names {
		cfg := config(name)
		require.False(t, cfg.AllowDirect, name)
		cfg.AllowDirect = true
		_, err := s.js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
		require.True(t, config(name).AllowDirect, name)
	}
	_, err := Open(t.Context(), s.nc, s.cfg)
	require.NoError(t, err)
	for _, name := range names {
		require.False(t, config(name).AllowDirect, name)
	}
}

// limits are the sizes of the streams as the server has them.
func limits(t *testing.T, s *Stream) (main, parked, hand int64) {
	t.Helper()
	var out []int64
	for _, name := range []string{streamName("shop"), parkedName("shop"), handName("shop")} {
		st, err := s.js.Stream(t.Context(), name)
		require.NoError(t, err)
		out = append(out, st.CachedInfo().Config.MaxBytes)
	}
	return out[0], out[1], out[2]
}

// A smaller stream.max_bytes makes the streams smaller at the next start, whatever they hold:
// nothing is dropped, nothing is taken until there is room, and what makes room is taken.
func TestSmallerLimits(t *testing.T) {
	const large, small = 64 << 20, 1 << 20
	dir := t.TempDir()
	nc, stop := serve(t, dir, StoreBytes(large))
	s, err := openOn(t, nc, Config{MaxBytes: large})
	require.NoError(t, err)
	payload := make([]byte, 64<<10)
	for range 64 {
		_, err := s.js.Publish(t.Context(), purgeSubject("shop", "cache"), payload)
		require.NoError(t, err)
	}
	for i := range 20 {
		b := keyed("cache", fmt.Sprint(i), 64<<10)
		require.NoError(t, s.PublishManual(t.Context(), b))
		require.NoError(t, s.Park(t.Context(), b, errors.New("refused")))
	}
	stop()

	for range 2 { // a change, and a start after it
		nc, stop = serve(t, dir, StoreBytes(small))
		s, err = openOn(t, nc, Config{MaxBytes: small})
		require.NoError(t, err)
		require.NoError(t, s.Refused())
		main, parked, hand := limits(t, s)
		require.Equal(t, []int64{small, 1 << 20, 1 << 20}, []int64{main, parked, hand})
		u, err := s.Usage(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, small, u.Limit)
		require.GreaterOrEqual(t, u.Messages, uint64(64), "nothing is dropped")
		_, err = s.js.Publish(t.Context(), purgeSubject("shop", "cache"), payload)
		require.True(t, isFull(err), "%v", err)
		require.ErrorIs(t, s.PublishManual(t.Context(), keyed("cache", "more", 64<<10)), ErrManualFull)
		_, err = s.Overflow(t.Context(), "cache")
		require.NoError(t, err, "a flush in the place of the backlog")
		require.NoError(t, s.note(t.Context(), trimmedSubject("shop"), 1))
		counts, err := s.Parked(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 20, counts["cache"])
		c := manual(t, s, "cache")
		for i := range 20 {
			require.Equal(t, fmt.Sprint(i), short(next(t, c.Consumer)))
		}
		c.drain(t.Context())
		stop()
	}

	nc, stop = serve(t, dir, StoreBytes(small))
	s, err = openOn(t, nc, Config{MaxBytes: small})
	require.NoError(t, err)
	require.NoError(t, s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(64)))
	_, err = s.js.Publish(t.Context(), purgeSubject("shop", "cache"), payload)
	require.NoError(t, err, "there is room again")
	stop()

	nc, stop = serve(t, dir, StoreBytes(large))
	defer stop()
	s, err = openOn(t, nc, Config{MaxBytes: large})
	require.NoError(t, err)
	main, parked, hand := limits(t, s)
	require.Equal(t, []int64{large, large / 16, large / 16}, []int64{main, parked, hand}, "and back")
}

// A server, or an account of it, that has no room for a change of the limits: the streams go
// on with what they have, and that is told.
func TestLimitsThatTheServerRefuses(t *testing.T) {
	const now, more = 16 << 20, 64 << 20
	nc, stop := serve(t, t.TempDir(), StoreBytes(now))
	defer stop()
	_, err := openOn(t, nc, Config{MaxBytes: more})
	require.ErrorContains(t, err, "create stream walpurge_shop: ", "it does not exist yet")
	s, err := openOn(t, nc, Config{MaxBytes: now})
	require.NoError(t, err)
	require.NoError(t, s.Refused())

	s, err = openOn(t, nc, Config{MaxBytes: more})
	require.NoError(t, err)
	require.ErrorContains(t, s.Refused(), "stream.max_bytes: the NATS server refuses 67108864 bytes for stream walpurge_shop")
	require.ErrorContains(t, s.Refused(), "16777216 bytes stay in force")
	u, err := s.Usage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, now, u.Limit)
	require.EqualValues(t, now, s.MaxBytes())
	main, parked, hand := limits(t, s)
	require.Equal(t, []int64{now, 1 << 20, 1 << 20}, []int64{main, parked, hand})
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "k", 0)))

	s, err = openOn(t, nc, Config{MaxBytes: now})
	require.NoError(t, err)
	require.NoError(t, s.Refused(), "and back")

	// A reload asks before it stops what runs.
	require.ErrorContains(t, s.TryMaxBytes(t.Context(), more), "stream.max_bytes: the NATS server refuses 67108864 bytes")
	main, parked, hand = limits(t, s)
	require.Equal(t, []int64{now, 1 << 20, 1 << 20}, []int64{main, parked, hand})
	require.NoError(t, s.TryMaxBytes(t.Context(), now/2))
	main, _, _ = limits(t, s)
	require.EqualValues(t, now/2, main)

	// An account that is given less than its streams reserve takes no update, not even a smaller size.
	cfg := s.cfg
	cfg.MaxBytes = 4 << 20
	s, err = OpenOn(t.Context(), refusing{s.js}, cfg)
	require.NoError(t, err)
	require.ErrorContains(t, s.Refused(), "8388608 bytes stay in force")
	require.EqualValues(t, now/2, s.MaxBytes())
	s, err = OpenOn(t.Context(), refusing{s.js}, s.cfg)
	require.NoError(t, err)
	require.NoError(t, s.Refused(), "there is nothing to change")

	cfg = s.cfg
	cfg.Replicas = 3
	_, err = Open(t.Context(), nc, cfg)
	require.ErrorContains(t, err, "create stream walpurge_shop: ", "replicas are a promise")
}

// refusing takes no update of a stream.
type refusing struct{ jetstream.JetStream }

var errNoRoom = &jetstream.APIError{Code: 500, ErrorCode: 10047, Description: "insufficient storage resources available"}

func (refusing) CreateOrUpdateStream(context.Context, jetstream.StreamConfig) (jetstream.Stream, error) {
	return nil, errNoRoom
}

func (refusing) UpdateStream(context.Context, jetstream.StreamConfig) (jetstream.Stream, error) {
	return nil, errNoRoom
}
