package app

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/sinks/valkey"
)

// everySecret is a configuration with a sink of each kind.
func everySecret() *config.Config {
	cfg := &config.Config{}
	for _, c := range config.Kinds() {
		if v, ok := c.(*valkey.Config); ok {
			v.SentinelTLS = &valkey.SentinelTLS{}
		}
		cfg.Sinks = append(cfg.Sinks, config.Sink{Name: c.Kind(), Config: c})
	}
	return cfg
}

// setFiles gives every setting that names a file with a secret a path of its own, and returns these.
func setFiles(v reflect.Value, paths *[]string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			setFiles(v.Elem(), paths)
		}
	case reflect.Slice:
		for i := range v.Len() {
			setFiles(v.Index(i), paths)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			if f.Kind() != reflect.String {
				setFiles(f, paths)
			} else if f.CanSet() && (name == "Credentials" || strings.HasSuffix(name, "File") && !slices.Contains([]string{"File", "CAFile", "CertFile"}, name)) {
				path := fmt.Sprintf("/nowhere/%d", len(*paths))
				f.SetString(path)
				*paths = append(*paths, path)
			}
		}
	}
}

func TestEverySecretFileIsChecked(t *testing.T) {
	cfg := everySecret()
	var want, got []string
	setFiles(reflect.ValueOf(cfg), &want)
	require.Greater(t, len(want), 10)
	for _, f := range secretFiles(cfg) {
		got = append(got, f.path)
	}
	require.ElementsMatch(t, want, got, "a setting that names a file with a secret is in secretFiles")
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("hunter2"), 0o600))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	fifo, large := filepath.Join(dir, "fifo"), file("large", 0o600)
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Truncate(large, 1<<40))
	for name, c := range map[string]struct {
		path, says string
		note       bool
	}{
		"ours":     {path: file("ours", 0o600)},
		"a group":  {path: file("group", 0o640)},
		"everyone": {path: file("everyone", 0o644), says: "http.token_file: every user of this machine may read or write the secret in", note: true},
		"writable": {path: file("writable", 0o602), says: "http.token_file: every user of this machine may read or write", note: true},
		"missing":  {path: filepath.Join(dir, "missing"), says: "http.token_file: open " + filepath.Join(dir, "missing") + ": no such file or directory; create the file"},
		"a folder": {path: dir, says: "is not a regular file"},
		"a device": {path: "/dev/zero", says: "http.token_file: /dev/zero is not a regular file"},
		"a pipe":   {path: fifo, says: "is not a regular file"},
		"a bundle": {path: large, says: "is too large"},
		"not set":  {},
	} {
		t.Run(name, func(t *testing.T) {
			var k checker
			k.secrets(&config.Config{HTTP: config.HTTP{TokenFile: c.path}})
			if c.says == "" {
				require.Empty(t, k.findings)
				return
			}
			require.Len(t, k.findings, 1)
			require.Contains(t, k.findings[0].Text, c.says)
			require.Equal(t, c.note, k.findings[0].Note)
			require.NotContains(t, k.findings[0].Text, "hunter2")
		})
	}
}

func TestClearText(t *testing.T) {
	for host, stays := range map[string]bool{
		"": true, "/var/run/postgresql": true, "localhost": true, "127.0.0.1": true, "127.3.4.5": true, "::1": true,
		"db.internal": false, "10.0.0.5": false, "0.0.0.0": false, "127.0.0.1.example": false, "fd00::1": false,
	} {
		var c checker
		c.clearText("postgres.url", host, "add sslmode=verify-full", false)
		require.Equal(t, stays, len(c.findings) == 0, host)
		c = checker{}
		c.clearText("postgres.url", host, "add sslmode=verify-full", true)
		require.Empty(t, c.findings, host)
	}
	for url, hosts := range map[string][]string{
		"valkey://cache:6379": {"cache"}, "redis://a:1,[fd00::1]:2": {"a", "fd00::1"}, "valkeys://cache:6379": nil, "rediss://cache": nil, "unix:///run/valkey.sock": nil,
	} {
		require.Equal(t, hosts, valkey.Config{URL: url}.ClearText(), url)
	}
}
