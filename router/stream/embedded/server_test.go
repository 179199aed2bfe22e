package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.MaxStore == 0 {
		cfg.MaxStore = 64 << 20
	}
	s, err := Start(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return s
}

// connect returns JetStream on a server, and a stream of everything below "a.".
func connect(t *testing.T, s *Server) (jetstream.JetStream, jetstream.Stream, func()) {
	t.Helper()
	nc, err := s.Connect()
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	st, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "a", Subjects: []string{"a.>"}, Storage: jetstream.FileStorage})
	require.NoError(t, err)
	return js, st, nc.Close
}

func TestOneServerForADirectory(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	_, err := Start(Config{Dir: dir, MaxStore: 1 << 20}, slog.New(slog.DiscardHandler))
	require.EqualError(t, err, fmt.Sprintf(
		"data_dir %s is in use by another walpurge (pid %d); stop that one, or give this one a data_dir of its own", dir, os.Getpid()))
	s.Close()
	start(t, Config{Dir: dir}).Close()
}

func TestUnusableDirectories(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Start(Config{Dir: filepath.Join(file, "data")}, log)
	require.ErrorContains(t, err, "data_dir: ")
	require.ErrorContains(t, err, "create it and give it to the user of the daemon")

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "walpurge.lock"), 0o700))
	_, err = Start(Config{Dir: dir}, log)
	require.ErrorContains(t, err, "give the directory to the user of the daemon")

	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600))
	_, err = Start(Config{Dir: dir, MaxStore: 1 << 20}, log)
	require.ErrorContains(t, err, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "jetstream")))
	start(t, Config{Dir: dir}).Close() // the failure left the directory unlocked
}

// A copy of the directory at any moment is what a killed process leaves behind.
func TestWhatWasAcknowledgedAndSyncedIsInTheFiles(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	defer s.Close()
	js, _, closeConn := connect(t, s)
	defer closeConn()
	payload := make([]byte, 2000)
	sent := 0
	for round := range 3 {
		for range 300 {
			_, err := js.Publish(t.Context(), "a.b", fmt.Appendf(payload[:0:0], "%d", sent))
			require.NoError(t, err)
			sent++
		}
		require.NoError(t, s.Sync())
		copied := filepath.Join(t.TempDir(), fmt.Sprint(round))
		require.NoError(t, os.CopyFS(copied, os.DirFS(s.cfg.Dir)))

		other := start(t, Config{Dir: copied})
		_, st, closeOther := connect(t, other)
		info, err := st.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(sent), info.State.Msgs)
		last, err := st.GetMsg(t.Context(), uint64(sent))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(sent-1), string(last.Data))
		closeOther()
		other.Close()
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := start(t, Config{Dir: t.TempDir()})
	js, _, closeConn := connect(t, s)
	_, err := js.Publish(t.Context(), "a.b", nil)
	require.NoError(t, err)
	closeConn()
	s.Close()
	goleak.VerifyNone(t, before)
}

func TestWithoutListenNobodyElseConnects(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	defer s.Close()
	require.Nil(t, s.ns.Addr())
	nc, err := s.Connect()
	require.NoError(t, err)
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, nc.FlushWithContext(ctx))
}
