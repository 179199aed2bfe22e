package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// dialNATS connects as a daemon does.
func dialNATS(t *testing.T, cfg config.NATS) (*nats.Conn, *logged) {
	t.Helper()
	out := new(logged)
	log := slog.New(slog.NewTextHandler(out, nil))
	reported := newNATSErrors(cfg.URL, log)
	t.Cleanup(reported.conditions.Close)
	_, nc, err := connectNATS(&config.Config{Pipeline: "shop", NATS: cfg}, log, reported)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc, out
}

// natsUser is a new user's seed and public name.
func natsUser(t *testing.T) (seed, name string) {
	t.Helper()
	user, err := nkeys.CreateUser()
	require.NoError(t, err)
	name, err = user.PublicKey()
	require.NoError(t, err)
	text, err := user.Seed()
	require.NoError(t, err)
	return string(text) + "\n", name
}

// reconnected has the connection made again until that worked so many times in all.
func reconnected(t *testing.T, nc *nats.Conn, times uint64, out *logged) {
	t.Helper()
	require.Eventually(t, func() bool {
		if nc.IsConnected() && nc.Stats().Reconnects >= times {
			return true
		}
		_ = nc.ForceReconnect()
		return false
	}, 60*time.Second, 100*time.Millisecond, "%s", out)
}

// TestNATSFilesAreReplacedByAnything: what takes the place of a file of the connection while the daemon runs may be a pipe, a device, a
// folder, of any size, or nothing. A reconnect does not wait for it, says which setting is wrong, and goes on once the file is back.
func TestNATSFilesAreReplacedByAnything(t *testing.T) {
	cert, key := tlsFiles(t)
	ca := writeFile(t, "ca", string(read(t, cert)))
	seed, name := natsUser(t)
	conf, credentials := operatorMode(t)
	tls := fmt.Sprintf("tls: {cert_file: %q, key_file: %q, ca_file: %q, verify: true}\n", cert, key, cert)
	byNkey := config.NATS{
		URL: fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "authorization: {users: [{nkey: "+name+"}]}\n"+tls)), Replicas: 1,
		NkeyFile: writeFile(t, "nkey", seed), CAFile: ca, CertFile: writeFile(t, "cert", string(read(t, cert))), KeyFile: writeFile(t, "key", string(read(t, key))),
	}
	byToken := config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\n"+conf)), Replicas: 1, Credentials: credentials}

	replace := map[string]func(path string) error{
		"pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device":  func(path string) error { return os.Symlink("/dev/zero", path) },
		"folder":  func(path string) error { return os.Mkdir(path, 0o700) },
		"large":   func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
		"missing": func(string) error { return nil },
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
	}
	for setting, c := range map[string]struct {
		cfg  config.NATS
		path string
	}{
		"nats.credentials": {byToken, byToken.Credentials}, "nats.nkey_file": {byNkey, byNkey.NkeyFile},
		"nats.tls.ca_file": {byNkey, byNkey.CAFile}, "nats.tls.cert_file": {byNkey, byNkey.CertFile}, "nats.tls.key_file": {byNkey, byNkey.KeyFile},
	} {
		t.Run(setting, func(t *testing.T) {
			for what, put := range replace {
				nc, out := dialNATS(t, c.cfg)
				content := read(t, c.path)
				require.NoError(t, os.Rename(c.path, c.path+".old"))
				require.NoError(t, put(c.path))
				require.NoError(t, nc.ForceReconnect())
				require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte(setting)) }, 60*time.Second, 20*time.Millisecond, "%s: %s", what, out)
				answered := make(chan bool)
				go func() { answered <- nc.IsConnected() }()
				select {
				case connected := <-answered:
					require.False(t, connected, what)
				case <-time.After(30 * time.Second):
					t.Fatalf("%s: the connection is locked", what)
				}
				require.NotContains(t, out.String(), string(bytes.TrimSpace(content)), "no content of a file")
				require.NoError(t, os.RemoveAll(c.path))
				require.NoError(t, os.Rename(c.path+".old", c.path))
				reconnected(t, nc, 1, out)
				nc.Close()
			}
		})
	}
}

// TestAReplacedNkeyIsAnotherUser: the seed of another user in nats.nkey_file is used under that user's name.
func TestAReplacedNkeyIsAnotherUser(t *testing.T) {
	seed, name := natsUser(t)
	next, nextName := natsUser(t)
	cfg := config.NATS{
		URL: fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "authorization: {users: [{nkey: "+name+"}, {nkey: "+nextName+"}]}")), Replicas: 1, NkeyFile: writeFile(t, "nkey", seed),
	}
	nc, out := dialNATS(t, cfg)
	user := func() string {
		m, err := nc.Request("$SYS.REQ.USER.INFO", nil, 30*time.Second)
		require.NoError(t, err)
		var info struct{ Data struct{ User string } }
		require.NoError(t, json.Unmarshal(m.Data, &info), string(m.Data))
		return info.Data.User
	}
	require.Equal(t, name, user())
	replaceFile(t, cfg.NkeyFile, next)
	reconnected(t, nc, 1, out)
	require.Equal(t, nextName, user(), "%s", out)
	// And back again.
	replaceFile(t, cfg.NkeyFile, seed)
	reconnected(t, nc, nc.Stats().Reconnects+1, out)
	require.Equal(t, name, user(), "%s", out)
}

// TestARefusedUserIsTriedAgain: a server that refuses the user at several reconnects may take it later, as when its own file is
// corrected after ours.
func TestARefusedUserIsTriedAgain(t *testing.T) {
	seed, name := natsUser(t)
	stranger, _ := natsUser(t)
	cfg := config.NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", startNATS(t, "authorization: {users: [{nkey: "+name+"}]}")), Replicas: 1, NkeyFile: writeFile(t, "nkey", seed)}
	nc, out := dialNATS(t, cfg)
	replaceFile(t, cfg.NkeyFile, stranger)
	for range 10 {
		_ = nc.ForceReconnect()
		time.Sleep(50 * time.Millisecond)
	}
	require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte("uthorization")) }, 60*time.Second, 20*time.Millisecond, "%s", out)
	replaceFile(t, cfg.NkeyFile, seed)
	reconnected(t, nc, 1, out)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// replaceFile replaces a file in one step, as programs that rotate secrets do.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), "next")
	require.NoError(t, os.WriteFile(next, []byte(text), 0o600))
	require.NoError(t, os.Rename(next, path))
}
