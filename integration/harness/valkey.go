package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ValkeyConfig says how a Valkey server is to be started. The zero value is a
// server without persistence in a temporary directory.
type ValkeyConfig struct {
	// Nice is added to the niceness of this process, 0 to 19 (Linux): under load this process is
	// served before the server.
	Nice int
	// Dir holds the server's files and valkey.log. Empty: a temporary directory,
	// which Close removes.
	Dir string
	// Binary defaults to FindValkey.
	Binary string
	// Args go after the defaults, such as "--maxmemory", "64mb".
	Args []string
	// Log receives what the server writes, besides valkey.log in Dir.
	Log io.Writer
}

// Valkey is a Valkey (or Redis) server, a direct child of this process. Its
// methods may be called concurrently, except that only one of Restart and Close
// may run at a time.
type Valkey struct {
	cfg   ValkeyConfig
	dir   string
	owned bool
	port  int

	mu   sync.Mutex
	proc *process
}

// StartValkey starts a server on a free port of 127.0.0.1 and returns when it
// answers. It blocks until then or until ctx ends; after an error nothing is
// left running.
func StartValkey(ctx context.Context, cfg ValkeyConfig) (*Valkey, error) {
	v := &Valkey{cfg: cfg, dir: cfg.Dir}
	if err := v.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start Valkey: %w", err), v.Close())
	}
	return v, nil
}

func (v *Valkey) start(ctx context.Context) (err error) {
	if v.cfg.Binary == "" {
		if v.cfg.Binary, err = FindValkey(); err != nil {
			return err
		}
	}
	if v.dir == "" {
		if v.dir, err = os.MkdirTemp("", "walpurge-valkey-"); err != nil {
			return err
		}
		v.owned = true
	}
	if v.dir, err = filepath.Abs(v.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return err
	}
	for range 5 {
		if v.port, err = FreePort(); err != nil {
			return err
		}
		if err = v.launch(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// Addr is host:port. It stays the same over Restart.
func (v *Valkey) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(v.port)) }

// URL is the address as the configuration of a sink takes it, database 0.
func (v *Valkey) URL() string { return "valkey://" + v.Addr() + "/0" }

// PID is the server's process id, running or not.
func (v *Valkey) PID() int { return v.process().pid() }

// Done is closed when the server that runs now has ended, for whatever reason.
// After Restart there is a new one.
func (v *Valkey) Done() <-chan struct{} { return v.process().done }

// LogFile is the path of the server's log.
func (v *Valkey) LogFile() string { return filepath.Join(v.dir, "valkey.log") }

func (v *Valkey) process() *process {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.proc
}

// Stop shuts the server down and waits until it has ended, or ctx ends. On a
// server that has ended already it does nothing.
func (v *Valkey) Stop(ctx context.Context) error {
	proc := v.process()
	if err := proc.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-proc.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("Valkey (pid %d) has not ended after SIGTERM: %w", proc.pid(), ctx.Err())
	}
}

// Kill ends the server with SIGKILL and waits until it is gone. What it held is
// lost, as nothing is persisted.
func (v *Valkey) Kill() error { return v.process().kill() }

// Restart starts the server again on the same port, after stopping it if it
// still runs. It comes back empty unless Args ask for persistence.
func (v *Valkey) Restart(ctx context.Context) error {
	if err := v.Stop(ctx); err != nil {
		return err
	}
	for {
		err := v.launch(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errPortTaken) {
			return fmt.Errorf("restart Valkey: %w", err)
		}
		if waitErr := pause(ctx, 20*time.Millisecond); waitErr != nil {
			return fmt.Errorf("restart Valkey: %w: %w", waitErr, err)
		}
	}
}

// Close stops the server and removes the directory that the harness made. It
// may be called at any time and again.
func (v *Valkey) Close() error {
	var errs []error
	if proc := v.process(); proc != nil {
		errs = append(errs, proc.kill())
	}
	if v.owned {
		errs = append(errs, os.RemoveAll(v.dir))
	}
	return errors.Join(errs...)
}

// launch starts the server on v.port and waits until it answers. After an error
// no server runs.
func (v *Valkey) launch(ctx context.Context) error {
	args := []string{
		"--port", strconv.Itoa(v.port), "--bind", "127.0.0.1", "--dir", v.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", "",
	}
	proc, err := startProcess(processSpec{
		path:     v.cfg.Binary,
		args:     append(args, v.cfg.Args...),
		dir:      v.dir,
		logFile:  v.LogFile(),
		tee:      v.cfg.Log,
		nice:     v.cfg.Nice,
		orphaned: syscall.SIGKILL,
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.proc = proc
	v.mu.Unlock()
	err = proc.await(ctx, func(ctx context.Context) error { return v.ready(ctx, proc.pid()) })
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, errEnded):
		return errors.Join(err, proc.kill())
	}
	said := proc.lastWords()
	if strings.Contains(said, "Address already in use") {
		err = fmt.Errorf("%w (%d)", errPortTaken, v.port)
	}
	return fmt.Errorf("%w: %s", err, said)
}

// ready asks whoever listens on the port for its process id: it may be another
// server that took the port first. A server that wants a password or a
// certificate says too little to tell, and counts.
func (v *Valkey) ready(ctx context.Context, pid int) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", v.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "INFO server\r\nQUIT\r\n"); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "-LOADING") {
			return errors.New(line[1:])
		}
		if strings.HasPrefix(line, "-") {
			return nil
		}
		if id, ok := strings.CutPrefix(line, "process_id:"); ok {
			if id != strconv.Itoa(pid) {
				return fmt.Errorf("another server (pid %s) has port %d", id, v.port)
			}
			return nil
		}
	}
	return errors.Join(errors.New("no answer to INFO"), lines.Err())
}
