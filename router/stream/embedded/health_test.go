package embedded

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWatchTellsOfAFailedStore(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	defer s.Close()
	_, _, done := connect(t, s)
	defer done()
	require.NoError(t, s.health())
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, s.Watch(ctx))

	// What a full disk does to one stream, this does to all.
	require.NoError(t, s.ns.DisableJetStream())
	failed := make(chan error, 1)
	go func() { failed <- s.Watch(t.Context()) }()
	select {
	case err := <-failed:
		require.ErrorContains(t, err, "the store in "+dir+" has failed: ")
		require.ErrorContains(t, err, "make room on its disk")
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing was reported")
	}
}
