package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// StopMode is a way to shut PostgreSQL down, named as pg_ctl names it.
type StopMode string

// The modes.
const (
	// Smart waits until every client has gone.
	Smart StopMode = "smart"
	// Fast ends the clients' sessions; walsenders first send what there is.
	Fast StopMode = "fast"
	// Immediate goes without a checkpoint; the next start recovers.
	Immediate StopMode = "immediate"
)

// signal follows "Shutting Down the Server" in PostgreSQL's manual.
func (m StopMode) signal() (syscall.Signal, error) {
	switch m {
	case Smart:
		return syscall.SIGTERM, nil
	case Fast:
		return syscall.SIGINT, nil
	case Immediate:
		return syscall.SIGQUIT, nil
	}
	return 0, fmt.Errorf("unknown stop mode %q, want %s, %s or %s", string(m), Smart, Fast, Immediate)
}

// Stop shuts the server down and returns how long that took. It blocks until
// the server has ended, or until ctx ends: then the shutdown goes on, and Kill
// or another Stop may hasten it. On a server that has ended already it returns
// 0 and no error.
func (p *Postgres) Stop(ctx context.Context, mode StopMode) (time.Duration, error) {
	sig, err := mode.signal()
	if err != nil {
		return 0, err
	}
	proc := p.process()
	if proc.ended() {
		return 0, nil
	}
	begun := time.Now()
	if err := proc.signal(sig); err != nil {
		return 0, err
	}
	select {
	case <-proc.done:
		return time.Since(begun), nil
	case <-ctx.Done():
		return time.Since(begun), fmt.Errorf("PostgreSQL (pid %d) has not ended %v after a %s stop: %w", proc.pid(), time.Since(begun).Round(time.Millisecond), mode, ctx.Err())
	}
}

// Kill ends the postmaster and its children with SIGKILL, as the machine's
// out-of-memory killer would at its worst, and waits until all are gone.
func (p *Postgres) Kill() error {
	proc := p.process()
	if proc.ended() {
		return nil
	}
	// A stopped postmaster forks no children that the list would miss.
	if err := proc.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	children, err := childrenOf(proc.pid())
	if err != nil {
		err = fmt.Errorf("list the children of PostgreSQL: %w", err)
	}
	err = errors.Join(err, proc.kill())
	for _, pid := range children {
		if kerr := syscall.Kill(pid, syscall.SIGKILL); kerr != nil && !errors.Is(kerr, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill child %d of PostgreSQL: %w", pid, kerr))
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, pid := range children {
		// They are not ours to wait for, so look.
		for alive(pid) {
			if time.Now().After(deadline) {
				return errors.Join(err, fmt.Errorf("child %d of PostgreSQL survived SIGKILL for 5 s", pid))
			}
			time.Sleep(time.Millisecond)
		}
	}
	return err
}

// Restart starts the server again with the same data, port and settings, after
// a fast stop if it still runs. It returns when the server accepts connections.
func (p *Postgres) Restart(ctx context.Context) error {
	if _, err := p.Stop(ctx, Fast); err != nil {
		return err
	}
	var last error
	for {
		err := p.launch(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errPortTaken) && !errors.Is(err, errMemoryInUse) {
			return fmt.Errorf("restart PostgreSQL: %w", errors.Join(err, last))
		}
		last = err
		if waitErr := pause(ctx, 20*time.Millisecond); waitErr != nil {
			return fmt.Errorf("restart PostgreSQL: %w: %w", waitErr, err)
		}
	}
}

var (
	errPortTaken   = errors.New("the port is taken")
	errMemoryInUse = errors.New("a process of the former server still lives")
)

// launch starts the postmaster on p.port and waits until it accepts
// connections. After an error no server runs.
func (p *Postgres) launch(ctx context.Context) error {
	if err := p.configure(); err != nil {
		return err
	}
	if err := p.dropEmptyLock(); err != nil {
		return err
	}
	proc, err := startProcess(processSpec{
		path:    p.cfg.Binaries.Path("postgres"),
		args:    []string{"-D", p.dataDir()},
		dir:     p.dir,
		logFile: p.LogFile(),
		tee:     p.cfg.Log,
		nice:    p.cfg.Nice,
		as:      p.as,
		// An immediate shutdown: the postmaster takes its children with it.
		orphaned: syscall.SIGQUIT,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.proc = proc
	p.mu.Unlock()
	err = proc.await(ctx, p.ready)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, errEnded):
		return errors.Join(err, p.Kill())
	}
	said := proc.lastWords()
	switch {
	case strings.Contains(said, "could not create any TCP/IP sockets"):
		err = fmt.Errorf("%w (%d)", errPortTaken, p.port)
	case strings.Contains(said, "pre-existing shared memory block"):
		err = errMemoryInUse
	}
	return fmt.Errorf("%w: %s", err, said)
}

// dropEmptyLock removes the lock file that a server killed between making and writing
// it has left: PostgreSQL takes an empty one for a server that is just starting.
func (p *Postgres) dropEmptyLock() error {
	path := filepath.Join(p.dataDir(), "postmaster.pid")
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Size() > 0:
		return nil
	}
	return os.Remove(path)
}
