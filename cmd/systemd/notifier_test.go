package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is one that a test makes ready and wedges, on the clock of a bubble.
type daemon struct {
	*Notifier
	mu           sync.Mutex
	ready, alive error
	said         []string
	stop         func()
}

// set makes it ready (which is &d.ready), or wedged, or neither.
func (d *daemon) set(condition *error, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*condition = err
}

func (d *daemon) get(condition *error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *condition
}

func start(t *testing.T, watchdog time.Duration) *daemon {
	d := &daemon{ready: errors.New("reader is connecting:\nREADY=1")}
	d.Notifier = New(Config{
		Socket: "none", Watchdog: watchdog, Logger: slog.New(slog.DiscardHandler),
		Ready: func() error { return d.get(&d.ready) }, Alive: func() error { return d.get(&d.alive) },
		Summary: func(context.Context) string { return "FRESH: every sink within 0.8 s" },
	})
	d.send = func(text string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.said = append(d.said, text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	d.stop = func() { cancel(); <-done }
	t.Cleanup(d.stop)
	return d
}

// after lets time pass and returns what was said in it.
func (d *daemon) after(wait time.Duration) []string {
	time.Sleep(wait)
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	said := d.said
	d.said = nil
	return said
}

func TestReadyOnceReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, 0)
		require.Equal(t, []string{"STATUS=reader is connecting: READY=1"}, d.after(time.Minute), "an error says no more than its own line, once")
		d.set(&d.ready, nil)
		require.Equal(t, []string{"READY=1\nSTATUS=ready"}, d.after(time.Second))
		d.set(&d.ready, errors.New("interrupted"))
		require.Equal(t, []string{"STATUS=FRESH: every sink within 0.8 s"}, d.after(statusEvery))
		d.stop()
		require.Equal(t, []string{"STOPPING=1\nSTATUS=stopping"}, d.after(time.Hour))
	})
}

func TestStoppedBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, time.Minute)
		d.after(time.Hour)
		d.stop()
		require.Equal(t, []string{"STOPPING=1\nSTATUS=stopping"}, d.after(time.Hour))
	})
}

func TestWatchdogIsFedOnlyWhileAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, 3*time.Second)
		fed := func(wait time.Duration) (n int) {
			for _, text := range d.after(wait) {
				if text == "WATCHDOG=1" {
					n++
				}
			}
			return n
		}
		require.Zero(t, fed(time.Minute), "not before it is ready")
		d.set(&d.ready, nil)
		d.after(time.Second)
		require.Equal(t, 60, fed(time.Minute))
		d.set(&d.alive, errors.New("wedged"))
		require.Zero(t, fed(time.Minute))
		d.set(&d.alive, nil)
		require.Equal(t, 60, fed(time.Minute))
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, 0)
		reload := func(err error) []string {
			require.Equal(t, err, d.Reload(func() error { return err }))
			return d.after(0)
		}
		d.after(0)
		require.Empty(t, reload(nil), "it is not ready, and must not be said to be")
		d.set(&d.ready, nil)
		d.after(time.Second)
		said := reload(nil)
		require.Len(t, said, 2)
		require.True(t, strings.HasPrefix(said[0], "RELOADING=1"))
		require.Equal(t, "READY=1\nSTATUS=reloaded", said[1])
		said = reload(errors.New("rules/a.yaml:4: no\nsuch column"))
		require.Equal(t, "READY=1\nSTATUS=reload failed, the old configuration goes on: rules/a.yaml:4: no such column", said[1])
		d.stop()
		require.Equal(t, []string{"STOPPING=1\nSTATUS=stopping"}, d.after(0))
		require.Empty(t, reload(nil), "it stops, and must not be said to be ready")
	})
}

// Over a socket, as systemd listens on it.
func TestSocket(t *testing.T) {
	// The name of a socket holds 107 bytes, which t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "notify")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := Config{Ready: func() error { return nil }, Alive: func() error { return nil }, Logger: slog.New(slog.DiscardHandler)}
	env := map[string]string{"NOTIFY_SOCKET": filepath.Join(dir, "s"), "WATCHDOG_USEC": "30000", "WATCHDOG_PID": "42"}
	require.NoError(t, cfg.Environment(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, 42))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: cfg.Socket, Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(cfg).Run(ctx)
	}()
	defer func() { <-done }()
	defer cancel()
	for _, want := range []string{"READY=1\nSTATUS=ready", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1\nSTATUS=stopping"} {
		if strings.HasPrefix(want, "STOPPING") {
			cancel()
		}
		b := make([]byte, 1000)
		n, err := conn.Read(b)
		for err == nil && string(b[:n]) == "WATCHDOG=1" && want != "WATCHDOG=1" {
			n, err = conn.Read(b)
		}
		require.NoError(t, err)
		require.Equal(t, want, string(b[:n]))
	}
}

// A manager that went away costs warnings, not the daemon.
func TestNobodyListens(t *testing.T) {
	require.Error(t, send(filepath.Join(t.TempDir(), "s"), "READY=1"))
	New(Config{}).Run(t.Context())
	ran := false
	require.NoError(t, New(Config{}).Reload(func() error { ran = true; return nil }))
	require.True(t, ran)
}

func TestEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want time.Duration
		bad  bool
	}{
		"none":              {nil, 0, false},
		"ours":              {map[string]string{"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "42"}, time.Minute, false},
		"whoever":           {map[string]string{"WATCHDOG_USEC": "60000000"}, time.Minute, false},
		"another process's": {map[string]string{"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "43"}, 0, false},
		"not a number":      {map[string]string{"WATCHDOG_USEC": "1min"}, 0, true},
		"no time":           {map[string]string{"WATCHDOG_USEC": "0"}, 0, true},
		"too large":         {map[string]string{"WATCHDOG_USEC": "9223372036854775807"}, 0, true},
	} {
		var cfg Config
		err := cfg.Environment(func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }, 42)
		require.Equal(t, c.bad, err != nil, name)
		require.Equal(t, c.want, cfg.Watchdog, name)
	}
}
