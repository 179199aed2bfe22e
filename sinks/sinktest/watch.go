package sinktest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// deadline is how long one call may take whatever the backend does. A sink's own limits are
// shorter; on a busy machine a call may take some seconds more than those.
const deadline = time.Minute

// watch is one test's rig, its sink, and everything the sink has said.
type watch struct {
	Subject
	Rig
	secrets []string
	all     *lines // every level
	loud    *lines // above debug
	sink    sinks.Sink
	close   func()
}

// start brings up a rig and opens a sink on it; both end with the test.
func (s Subject) start(t *testing.T) *watch {
	w := s.startOnly(t)
	w.open(t)
	return w
}

func (s Subject) startOnly(t *testing.T) *watch {
	t.Helper()
	w := &watch{Subject: s, secrets: []string{"conformance-secret-5d41402abc4b"}, all: &lines{}, loud: &lines{}}
	logger := slog.New(slog.NewMultiHandler(
		slog.NewJSONHandler(w.all, &slog.HandlerOptions{Level: slog.LevelDebug}),
		slog.NewJSONHandler(w.loud, &slog.HandlerOptions{Level: slog.LevelInfo}),
	))
	w.Rig = s.Start(t, Env{Secret: w.secrets[0], Logger: logger})
	t.Cleanup(func() { w.noSecretIn(t, "the log", w.all.String()) })
	return w
}

func (w *watch) open(t *testing.T) {
	t.Helper()
	w.sink, w.close = w.Open(t)
	t.Cleanup(w.close)
}

// purge calls the sink and makes the demands that hold for every call: it
// ends, and neither its error nor its log tells a secret or a value.
func (w *watch) purge(t *testing.T, ctx context.Context, batch []invalidation.Invalidation) error {
	t.Helper()
	begun := time.Now()
	err := w.sink.Purge(ctx, batch)
	require.Less(t, time.Since(begun), deadline, "Purge took too long")
	said := strings.Join(texts(err), "\n")
	w.noSecretIn(t, "the error", said)
	for _, inv := range batch {
		// Shorter values turn up in any text by chance.
		if len(inv.Value) < 8 {
			continue
		}
		require.NotContains(t, said, inv.Value, "a value is told in an error")
		require.NotContains(t, w.loud.String(), inv.Value, "a value is logged above debug")
	}
	return err
}

func (w *watch) noSecretIn(t *testing.T, where, text string) {
	t.Helper()
	for _, s := range w.secrets {
		if strings.Contains(text, s) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(s))) {
			// Not require.NotContains: that would print the secret again.
			t.Fatalf("%s tells the secret", where)
		}
	}
}

func (w *watch) requireGone(t *testing.T, values []string) {
	t.Helper()
	for i, v := range values {
		require.False(t, w.Held(t, v), "place %d was reported as purged and is still held", i)
	}
}

// texts lists what every error of the tree says, in the forms a logger would use.
func texts(err error) []string {
	if err == nil {
		return nil
	}
	out := []string{err.Error(), fmt.Sprintf("%+v", err)}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		out = append(out, texts(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			out = append(out, texts(sub)...)
		}
	}
	return out
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
