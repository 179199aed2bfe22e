package app

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/config"
)

// TestRetryPause: attempts that stop the pipeline become rare.
func TestRetryPause(t *testing.T) {
	d := &Daemon{opts: Options{Config: &config.Config{Postgres: postgres.Config{Heartbeat: 10 * time.Second}}}}
	for stops, want := range map[int]time.Duration{0: 10 * time.Second, 1: 20 * time.Second, 5: 320 * time.Second, 6: maxRetryPause, 100: maxRetryPause} {
		d.stops = stops
		require.Equal(t, want, d.retryPause(), "after %d", stops)
	}
}

// TestContentDigest: what counts is what the files hold, and not where they are.
func TestContentDigest(t *testing.T) {
	at := func(name string) *config.Config {
		dir := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "rules"), 0o755))
		for file, text := range map[string]string{"walpurge.yaml": "a", "rules/1.yaml": "b", "rules/2.yaml": "c"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
		}
		return &config.Config{File: filepath.Join(dir, "walpurge.yaml"), Globs: []string{filepath.Join(dir, "rules/*.yaml")}}
	}
	here, there := at("here"), at("there")
	require.Equal(t, ContentDigest(here), ContentDigest(there))
	digests := map[string]bool{ContentDigest(here): true}
	for i, change := range []func(){
		func() { require.NoError(t, os.WriteFile(there.File, []byte("a # comment"), 0o600)) },
		func() {
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(there.File), "rules/2.yaml"), []byte("d"), 0o600))
		},
		func() {
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(there.File), "rules/3.yaml"), nil, 0o600))
		},
		func() { require.NoError(t, os.Remove(filepath.Join(filepath.Dir(there.File), "rules/1.yaml"))) },
	} {
		change()
		require.False(t, digests[ContentDigest(there)], fmt.Sprint(i))
		digests[ContentDigest(there)] = true
	}
}
