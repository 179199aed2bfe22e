package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// ErrPutOff is what a gate's Brief returns where it is held shut by nothing but
// purges that another lane has deferred, because of a rule's period or because the sink refuses
// their kind. ErrFlushHeldBack is the one where a flush is among them that is spread over a time or held apart.
var (
	ErrPutOff        = errors.New("the purges that the gate waits for are deferred")
	ErrFlushHeldBack = fmt.Errorf("%w, a flush among them", ErrPutOff)
)

// ErrPurgedEarly is what a gate's Early returns where it is closed only by messages that another lane has
// purged before its own gates were open, and will purge again.
var ErrPurgedEarly = errors.New("the purges that the gate waits for were carried out early")

// Until says how much of another lane's work is waited for.
type Until = machine.Until

const (
	// Purged: all of it, purged behind open gates.
	Purged = machine.AllPurged
	// PurgedOrDeferred: what is deferred because of a rule's period is left out.
	PurgedOrDeferred = machine.AllPurgedOrDeferred
	// PurgedOnce: so is what was purged while the lane's own gates were closed.
	PurgedOnce = machine.AllPurgedOnce
	// Settled: all of it, second purges too.
	Settled = machine.AllSettled
)

// Past blocks until this lane has purged what the stream holds before a message
// of a lane that waits for it, and returns nil; or the context's cause. floor
// does the same by the lane's acknowledgements alone, which stand still while
// one value is deferred, and wait for second purges. So what is deferred is waited for only where the message
// depends on it; see machine.Dependence. As soon as nothing is left but
// what until leaves out, Past returns ErrPutOff, ErrFlushHeldBack or ErrPurgedEarly.
func (l *Lane) Past(ctx context.Context, m invalidation.Message, until Until, floor func(ctx context.Context, seq uint64) error) (err error) {
	brief := until == PurgedOrDeferred || until == PurgedOnce
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seq, inherited := m.Seq, uint64(0)
	if !l.inherited.purged.Load() {
		inherited = l.inherited.Newest
		seq = max(seq, inherited+1)
		defer func() {
			if err == nil {
				l.inherited.purged.Store(true)
			}
		}()
	}
	passed := make(chan error, 1)
	var asking sync.WaitGroup
	asking.Go(func() { passed <- floor(ctx, seq) })
	var depends *machine.Dependence
	for {
		first, moved, lifted := l.before(seq, depends, until)
		switch {
		case lifted != nil:
			// A flush replaces what this lane has skipped.
			select {
			case <-lifted:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case moved == nil:
			cancel()
			asking.Wait()
			return nil
		case first != nil && first.Off && depends == nil:
			depends = machine.DependsOn(m.Batch, inherited)
			continue
		case first != nil && first.Off && brief:
			cancel()
			asking.Wait()
			if first.Flush && depends.Flush() {
				return ErrFlushHeldBack
			}
			return ErrPutOff
		case first != nil && first.Early:
			cancel()
			asking.Wait()
			return ErrPurgedEarly
		}
		select {
		case <-moved:
		case err := <-passed:
			if err != nil {
				return err
			}
			moved, lifted := l.passedBefore(seq, machine.DependsOn(m.Batch, inherited))
			switch {
			case lifted != nil:
				passed <- nil
				continue
			case moved == nil:
				return nil
			case brief:
				return ErrPutOff
			}
			// The acknowledgements have passed what the message depends on.
			select {
			case <-moved:
				passed <- nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// before returns the first message that one at seq of another lane waits for, nil where it waits for nothing, and what is closed when
// that changes or one more is read; moved is nil if nothing is waited for. While claims are kept back, it returns
// only what is closed when that ends.
func (l *Lane) before(seq uint64, depends *machine.Dependence, until Until) (first *machine.Blocker, moved, lifted <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lifted := l.lifted(); lifted != nil {
		return nil, nil, lifted
	}
	first, unread := l.machine.Before(seq, depends, until)
	switch {
	case first != nil:
		moved = l.signals.of(first.Entry)
	case unread:
		moved = l.signals.newer()
	}
	return first, moved, nil
}

// passedBefore returns what is closed when a message that is acknowledged and not purged changes, nil if none is to be waited for.
func (l *Lane) passedBefore(seq uint64, depends *machine.Dependence) (moved, lifted <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lifted := l.lifted(); lifted != nil {
		return nil, lifted
	}
	if e := l.machine.PassedBefore(seq, depends); e != nil {
		moved = l.signals.of(e)
	}
	return moved, nil
}

// lifted is closed when claims are not kept back any more, nil if they are not. The caller holds the lock.
func (l *Lane) lifted() <-chan struct{} {
	if !l.machine.Holding() {
		return nil
	}
	if l.signals.lifted == nil {
		l.signals.lifted = make(chan struct{})
	}
	return l.signals.lifted
}

// signal tells who waits for a message of the lane what has changed. The caller holds the lock.
func (l *Lane) signal() {
	for _, e := range l.machine.Changed() {
		if c := l.signals.entries[e]; c != nil {
			close(c)
			delete(l.signals.entries, e)
		}
	}
	if l.signals.lifted != nil && !l.machine.Holding() {
		close(l.signals.lifted)
		l.signals.lifted = nil
	}
}

// signals are closed when what they are for changes.
type signals struct {
	entries map[*machine.Entry]chan struct{}
	read    chan struct{}
	lifted  chan struct{}
}

func (s *signals) of(e *machine.Entry) <-chan struct{} {
	c := s.entries[e]
	if c == nil {
		if s.entries == nil {
			s.entries = make(map[*machine.Entry]chan struct{})
		}
		c = make(chan struct{})
		s.entries[e] = c
	}
	return c
}

// newer is closed when the lane has read another message.
func (s *signals) newer() <-chan struct{} {
	if s.read == nil {
		s.read = make(chan struct{})
	}
	return s.read
}

// Inherited says what an earlier run may have left to a lane: values that a rule's period deferred, of messages
// that are acknowledged because newer ones hold those values. Which messages those are is not known any more.
type Inherited struct {
	// Acked is the sequence up to which everything was acknowledged when this run began, Newest that of the
	// stream's newest message.
	Acked, Newest uint64
}

// inherited is what a lane has of it until all that the stream held is purged. Whether a message of another lane
// depends on it is not known, so each of them waits for it.
type inherited struct {
	Inherited
	purged atomic.Bool
}
