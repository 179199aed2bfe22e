package harness

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The servers must go down with a process that had no chance to stop them.
func TestServersDieWithTheirParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	fields := strings.Fields(line)
	var pids []int
	for _, field := range fields {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(field)) })
			continue
		}
		pids = append(pids, pid)
		t.Cleanup(func() {
			// After a success the pid is free, and may be somebody else's by now.
			if t.Failed() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
	// A child may have ended by itself since it was listed, as an autovacuum worker does.
	living := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !alive(pid) })
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.NoError(t, readErr)
	require.Greater(t, len(living), 4)
	require.Subset(t, living, pids[len(pids)-2:], "the servers, which come last")
	requireGone(t, pids)
}

func TestGroupClosesLastFirst(t *testing.T) {
	var g Group
	var order []string
	add := func(name string, err error) {
		g.Add(name, func() error { order = append(order, name); return err })
	}
	add("database", errors.New("stuck"))
	add("cache", nil)
	add("edge", io.ErrClosedPipe)
	err := g.Close()
	require.Equal(t, []string{"edge", "cache", "database"}, order)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.ErrorContains(t, err, "close database: stuck")
	require.NoError(t, g.Close())
	require.Len(t, order, 3)
}

func TestFindPostgresByEnvironment(t *testing.T) {
	t.Setenv(PostgresBinEnv, t.TempDir())
	_, err := FindPostgres()
	require.ErrorContains(t, err, PostgresBinEnv)

	old := t.TempDir()
	for program, script := range map[string]string{"initdb": "exit 0", "postgres": "echo 'postgres (PostgreSQL) 14.9'"} {
		require.NoError(t, os.WriteFile(filepath.Join(old, program), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv(PostgresBinEnv, old)
	_, err = FindPostgres()
	require.ErrorContains(t, err, "PostgreSQL 14, need 15")
}

func TestFindValkey(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := FindValkey()
	require.ErrorContains(t, err, "make deps")
	redis := filepath.Join(dir, "redis-server")
	for version, accepted := range map[string]bool{"6.2.1": false, "7.0.15": true} {
		require.NoError(t, os.WriteFile(redis, []byte("#!/bin/sh\necho 'Redis server v="+version+" sha=0:0'\n"), 0o755))
		path, err := FindValkey()
		require.Equal(t, accepted, err == nil, version)
		if accepted {
			require.Equal(t, redis, path)
		}
	}
}
