package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// processSpec says what to run and as whom.
type processSpec struct {
	path string
	args []string
	dir  string
	// logFile receives stdout and stderr, after what it holds; tee, too, if set.
	logFile string
	tee     io.Writer
	// nice is added to the niceness of this process (nice(1)), 0 to 19.
	nice int
	// env is added to the fixed environment.
	env []string
	// as is the account to run under; nil is the caller's own.
	as *account
	// orphaned is the signal that the process gets when its parent dies (Linux).
	orphaned syscall.Signal
}

// process is a running child. Its done channel is closed once it has ended and
// has been reaped, so that its pid no longer exists.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	// log is the log file's path; its content up to logStart is older.
	log      string
	logStart int64
}

// startProcess starts a child in a process group of its own, so that a Ctrl-C
// meant for the parent does not reach it, with a fixed environment.
func startProcess(spec processSpec) (*process, error) {
	log, err := os.OpenFile(spec.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	logStart, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	cmd := exec.Command(spec.path, spec.args...)
	cmd.Dir = spec.dir
	var output io.Writer = log
	if spec.tee != nil {
		output = io.MultiWriter(log, spec.tee)
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, spec.env...)
	cmd.SysProcAttr = sysProcAttr(spec)
	// Applies only with a tee: grandchildren may hold the pipe open for a moment
	// longer than their parent lives.
	cmd.WaitDelay = 2 * time.Second
	p := &process{cmd: cmd, done: make(chan struct{}), log: spec.logFile, logStart: logStart}
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked
		// ends, not when the process does. This goroutine keeps its thread until
		// the child is gone.
		runtime.LockOSThread()
		if spec.nice == 0 {
			// A thread that is nice itself, as its child is to be, ends with this goroutine.
			defer runtime.UnlockOSThread()
		}
		defer close(p.done)
		defer log.Close()
		err := beNice(spec.nice)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err != nil {
			return
		}
		// How it ended is in cmd.ProcessState; that a server ended with a signal
		// is not an error here.
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// errEnded says that a process ended before it was ready.
var errEnded = errors.New("the server ended at once")

// await probes until the server is ready, has ended (errEnded), or ctx ends, in
// which case it leaves the process running.
func (p *process) await(ctx context.Context, probe func(context.Context) error) error {
	for {
		err := probe(ctx)
		// Looked at after the probe: one that was answered by another server on
		// the same port does not count.
		if p.ended() {
			return errEnded
		}
		if err == nil {
			return nil
		}
		if waitErr := pause(ctx, 5*time.Millisecond); waitErr != nil {
			return fmt.Errorf("not ready in time: %w; last answer: %w", waitErr, err)
		}
	}
}

// lastWords says how the process ended and what it logged. Call it only after
// done is closed.
func (p *process) lastWords() string {
	all, err := os.ReadFile(p.log)
	if err != nil {
		return p.cmd.ProcessState.String() + "; its log: " + err.Error()
	}
	said := strings.TrimSpace(string(all[min(p.logStart, int64(len(all))):]))
	return p.cmd.ProcessState.String() + "; it logged:\n" + said[max(0, len(said)-2000):]
}

// signal is a no-op on a process that has ended.
func (p *process) signal(sig syscall.Signal) error {
	if p.ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !p.ended() && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to pid %d: %w", sig, p.pid(), err)
	}
	return nil
}

// kill ends the process with SIGKILL and waits until it is reaped.
func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// pause waits, or returns the context's error when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
