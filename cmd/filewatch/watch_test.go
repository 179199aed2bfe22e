package filewatch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWatch does to files what editors, tools and Kubernetes do.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(at(name)), 0o755))
		require.NoError(t, os.WriteFile(at(name), []byte(text), 0o644))
	}
	link := func(to, name string) {
		t.Helper()
		require.NoError(t, os.Symlink(to, at(name)+".new"))
		require.NoError(t, os.Rename(at(name)+".new", at(name)))
	}
	write("etc/walpurge.yaml", "a")
	write("rules/a.yaml", "a")
	write("map/..1/m.yaml", "a")
	link("..1", "map/..data")
	link("..data/m.yaml", "map/m.yaml")
	write("releases/1/r.yaml", "a")
	link("releases/1", "current")
	write("far/f.yaml", "a")
	link("../far/f.yaml", "etc/f.yaml")
	patterns := []string{at("etc/*.yaml"), at("rules/*.yaml"), at("map/*.yaml"), at("current/*.yaml"), at("teams/*/x.yaml"), at("far/away/*.yaml")}

	changed := make(chan string, 100)
	last := ""
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Patterns: func() []string { return patterns }, Quiet: 20 * time.Millisecond, Poll: time.Hour, Logger: slog.New(slog.DiscardHandler),
			Look: func(context.Context) {
				if d := Digest(patterns); d != last {
					last = d
					changed <- d
				}
			},
		})
	}()
	<-changed
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"written", func() { write("etc/walpurge.yaml", "b") }},
		{"replaced", func() {
			write("rules/.a.swp", "b")
			require.NoError(t, os.Rename(at("rules/.a.swp"), at("rules/a.yaml")))
		}},
		{"new", func() { write("rules/b.yaml", "b") }},
		{"removed", func() { require.NoError(t, os.Remove(at("rules/b.yaml"))) }},
		{"config map", func() { write("map/..2/m.yaml", "b"); link("..2", "map/..data") }},
		{"config map again", func() { write("map/..3/m.yaml", "c"); link("..3", "map/..data") }},
		{"linked directory", func() { write("releases/2/r.yaml", "b"); link("releases/2", "current") }},
		{"in the linked directory", func() { write("releases/2/r.yaml", "c") }},
		{"behind a link", func() { write("far/f.yaml", "b") }},
		{"first directory of a pattern", func() { write("teams/one/x.yaml", "a") }},
		{"in it", func() { write("teams/one/x.yaml", "b") }},
		{"directory that was not there", func() { write("far/away/x.yaml", "b") }},
		{"one more", func() { write("teams/two/x.yaml", "b") }},
	} {
		want := Digest(patterns)
		step.do()
		require.NotEqual(t, want, Digest(patterns), step.name)
		want = Digest(patterns)
		for got := ""; got != want; {
			select {
			case got = <-changed:
			case <-time.After(20 * time.Second):
				require.FailNow(t, "not noticed", step.name)
			}
		}
	}
	stop()
	require.NoError(t, <-done)
}

// TestPoll: where nothing gives notice, time does.
func TestPoll(t *testing.T) {
	looks := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Patterns: func() []string { return []string{filepath.Join(t.TempDir(), "gone", "*.yaml"), "["} }, Poll: 10 * time.Millisecond,
			Logger: slog.New(slog.DiscardHandler), Look: func(ctx context.Context) {
				select {
				case looks <- struct{}{}:
				case <-ctx.Done():
				}
			},
		})
	}()
	<-looks
	<-looks
	stop()
	require.NoError(t, <-done)
}
