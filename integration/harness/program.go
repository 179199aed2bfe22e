package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// ProgramConfig says how a program that is not one of the servers above is started, such as
// an application or the daemon itself.
type ProgramConfig struct {
	// Nice is added to the niceness of this process, 0 to 19 (Linux): under load this process is
	// served before the server.
	Nice int
	// Name is used in errors, and for the log file.
	Name string
	// Path and Args are the program and its arguments.
	Path string
	Args []string
	// Dir is the working directory, which exists. The log is NAME.log in LogDir, or in Dir.
	Dir, LogDir string
	// Env holds NAME=value, added to PATH, LC_ALL and TZ.
	Env []string
	// Ready is called until it returns nil. It must not take another process on the same
	// address for this one.
	Ready func(context.Context) error
}

// Program is a running program, a direct child of this process. Only one of Restart and Close
// may run at a time.
type Program struct {
	cfg  ProgramConfig
	proc *process
}

// StartProgram starts a program and returns when it is ready. It blocks until then or until
// ctx ends; after an error nothing is left running.
func StartProgram(ctx context.Context, cfg ProgramConfig) (*Program, error) {
	p := &Program{cfg: cfg}
	if err := p.Restart(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Restart starts the program again, after Kill or its end, and waits until it is ready.
func (p *Program) Restart(ctx context.Context) error {
	dir := p.cfg.LogDir
	if dir == "" {
		dir = p.cfg.Dir
	}
	proc, err := startProcess(processSpec{
		path: p.cfg.Path, args: p.cfg.Args, dir: p.cfg.Dir, env: p.cfg.Env,
		logFile:  filepath.Join(dir, p.cfg.Name+".log"),
		orphaned: syscall.SIGKILL, nice: p.cfg.Nice,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", p.cfg.Name, err)
	}
	p.proc = proc
	err = proc.await(ctx, p.cfg.Ready)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errEnded):
		return fmt.Errorf("start %s: %w: %s", p.cfg.Name, err, proc.lastWords())
	}
	killed := proc.kill()
	return fmt.Errorf("start %s: %w; %s", p.cfg.Name, errors.Join(err, killed), proc.lastWords())
}

// PID is the program's process id, running or not.
func (p *Program) PID() int { return p.proc.pid() }

// LogFile is the path of what the program writes to stdout and stderr.
func (p *Program) LogFile() string { return p.proc.log }

// Kill ends the program with SIGKILL and waits until it is gone.
func (p *Program) Kill() error { return p.proc.kill() }

// Close stops the program with SIGTERM, and with SIGKILL if it runs 20 s longer.
func (p *Program) Close() error {
	if err := p.proc.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.proc.done:
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(fmt.Errorf("%s (pid %d) did not end within 20 s of SIGTERM", p.cfg.Name, p.PID()), p.proc.kill())
	}
}
