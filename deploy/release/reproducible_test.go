//go:build full

package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Another directory and an empty build cache make the same bytes. It compiles
// everything once more, which takes minutes.
func TestReproducible(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "a", "copy")
	copySource(t, elsewhere)
	first, second := t.TempDir(), t.TempDir()
	cfg := buildConfig{Version: "1.2.3", Platforms: []string{"linux/amd64"}, Out: first, Dir: top, Say: io.Discard}
	require.NoError(t, build(t.Context(), cfg))
	cfg.Dir, cfg.Out = elsewhere, second
	cfg.Env = []string{"GOCACHE=" + t.TempDir(), "TZ=Asia/Tokyo"}
	require.NoError(t, build(t.Context(), cfg))
	want, err := os.ReadFile(filepath.Join(first, "SHA256SUMS"))
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(second, "SHA256SUMS"))
	require.NoError(t, err)
	require.Contains(t, string(want), "walpurge_1.2.3_linux_amd64\n")
	require.Equal(t, string(want), string(got))
}

// copySource copies what a build reads.
func copySource(t *testing.T, to string) {
	t.Helper()
	from := os.DirFS(top)
	for _, name := range []string{"cdc", "cmd", "deploy", "integration", "router", "rules", "sinks"} {
		sub, err := fs.Sub(from, name)
		require.NoError(t, err)
		require.NoError(t, os.CopyFS(filepath.Join(to, name), sub))
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(top, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, name), data, 0o600))
	}
}
