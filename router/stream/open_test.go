package stream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// A replica that is behind would say that a lane owes nothing, that there is no
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
