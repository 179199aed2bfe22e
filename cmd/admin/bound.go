package admin

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Servers are those that a call may wait for.
type Servers struct {
	// Stream: the server that holds the stream. Database: PostgreSQL.
	Stream, Database bool
}

// SilentError says that a server which a call needs does not answer, so that the effect of the call is not known.
type SilentError struct {
	// Err names the server.
	Err error
	// Cause is how the call ended, nil if it was still waiting.
	Cause error
}

// Error names the server, and says what to do.
func (e *SilentError) Error() string {
	text := e.Err.Error()
	if e.Cause != nil {
		text += " (" + e.Cause.Error() + ")"
	}
	return text + "; whether the call took effect is not known, so repeat it once the server answers"
}

// Unwrap returns both errors.
func (e *SilentError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

var errActing = fmt.Errorf("%d calls are being carried out already; try again when some of them have ended", maxActing)

// maxActing bounds the calls that are carried out at a time. One whose caller has been answered may still wait for a
// server, or for a disk.
const maxActing = 32

const (
	// silentAfter is how long a call waits before the servers that it needs are asked for a sign of life. A call that
	// takes long while they answer, such as a replay of everything, goes on.
	silentAfter = 5 * time.Second
	// slowAfter is the same for calls that have to wait for a session with the database, or for a pipeline to drain.
	slowAfter = 30 * time.Second
)

// within bounds a call: once it has waited for a multiple of patience and a server that it needs gives no sign of life, it ends with a
// *SilentError. It ends too when its caller leaves. The call may ignore its context; then its goroutine ends later.
func within[In, Out any](s *Server, patience time.Duration, needs Servers, do func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	type outcome struct {
		out      Out
		err      error
		panicked any
	}
	return func(ctx context.Context, in In) (none Out, _ error) {
		if ctx.Err() != nil {
			return none, context.Cause(ctx)
		}
		select {
		case s.acting <- struct{}{}:
		default:
			return none, errActing
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		done := make(chan outcome, 1)
		go func() {
			var o outcome
			defer func() {
				<-s.acting
				o.panicked = recover() // the handler panics with it, which ends the connection and not the daemon
				done <- o
			}()
			o.out, o.err = do(ctx, in)
		}()
		poll := time.NewTicker(patience)
		defer poll.Stop()
		for {
			select {
			case o := <-done:
				if o.panicked != nil {
					panic(o.panicked)
				}
				if errors.Is(o.err, context.DeadlineExceeded) && ctx.Err() == nil {
					if silent := s.cfg.Silent(ctx, needs); silent != nil {
						return none, &SilentError{Err: silent, Cause: o.err}
					}
				}
				return o.out, o.err
			case <-ctx.Done():
				return none, context.Cause(ctx)
			case <-poll.C:
				if silent := s.cfg.Silent(ctx, needs); silent != nil && ctx.Err() == nil {
					return none, &SilentError{Err: silent}
				}
			}
		}
	}
}
