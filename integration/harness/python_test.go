package harness

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A python3 in PATH that lacks a module is passed over, and the error names the packages.
func TestFindPython(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
		return path
	}
	lacks := program("lacks", `echo "ModuleNotFoundError: No module named 'redis'" >&2; exit 1`)
	has := program("has", `[ "$2" = "import sys, redis, prometheus_client" ]`)
	found, err := findPython(t.Context(), []string{lacks, has}, []string{"redis", "prometheus_client"})
	require.NoError(t, err)
	require.Equal(t, has, found)
	_, err = findPython(t.Context(), []string{lacks, filepath.Join(dir, "none")}, []string{"redis", "prometheus_client"})
	require.ErrorContains(t, err, "run `apt-get install python3 python3-redis python3-prometheus-client`")
	require.ErrorContains(t, err, "No module named 'redis'")
}
