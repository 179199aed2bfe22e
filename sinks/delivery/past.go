package delivery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/walpurge/walpurge/rules/invalidation"
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
type Until int

const (
	// Purged: all of it, purged behind open gates.
	Purged Until = iota
	// PurgedOrDeferred: what is deferred because of a rule's period is left out.
	PurgedOrDeferred
	// PurgedOnce: so is what was purged while the lane's own gates were closed.
	PurgedOnce
	// Settled: all of it, second purges too.
	Settled
)

// Past blocks until this lane has purged what the stream holds before a message
// of a lane that waits for it, and returns nil; or the context's cause. floor
// does the same by the lane's acknowledgements alone, which stand still while
// one value is deferred, and wait for second purges. So what is deferred is waited for only where the message
// depends on it; see dependence. As soon as nothing is left but
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
	var depends *dependence
	for {
		if lifted := l.tracker.holding(); lifted != nil {
			// A flush replaces what this lane has skipped.
			select {
			case <-lifted:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		first, newer := l.tracker.before(seq, depends, until)
		switch {
		case first == nil && newer == nil:
			cancel()
			asking.Wait()
			return nil
		case first != nil && first.off && depends == nil:
			depends = dependsOn(m.Batch, inherited)
			continue
		case first != nil && first.off && brief:
			cancel()
			asking.Wait()
			if first.flush && depends.flush {
				return ErrFlushHeldBack
			}
			return ErrPutOff
		case first != nil && first.early:
			cancel()
			asking.Wait()
			return ErrPurgedEarly
		}
		if first != nil {
			newer = first.moved
		}
		select {
		case <-newer:
		case err := <-passed:
			if err == nil && l.tracker.holding() != nil {
				passed <- nil
				continue
			}
			if err != nil {
				return err
			}
			moved := l.tracker.passedBefore(seq, dependsOn(m.Batch, inherited))
			switch {
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

// blocker is a message that another lane waits for. off is set where it is deferred, flush where it is
// a flush that is held back on purpose, early where it was purged before its gates were open.
type blocker struct {
	off, flush, early bool
	moved             <-chan struct{}
}

// before finds the first message before seq that is not purged; one that is
// deferred only if it is one to depend on, and only if there is no other, a flush that is held back before all else. With depends
// nil all are. With PurgedOnce, one that was purged early is found only if there is no other. With Settled, one that waits
// for its second purge is found, too. If messages before
// seq are not all known, newer is closed when one more is.
func (t *tracker) before(seq uint64, depends *dependence, until Until) (first *blocker, newer <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	watch := func(e *entry) *blocker {
		if e.moved == nil {
			e.moved = make(chan struct{})
		}
		return &blocker{moved: e.moved}
	}
	var early *entry
	off := t.passedFor(seq, depends)
	for _, e := range t.queue[t.acks:] {
		if until == Settled && e.seq < seq && e.purged && !e.done {
			return watch(e), nil
		}
		if e.seq >= seq || e.purged || e.batch == nil {
			continue
		}
		isEarly := until == PurgedOnce && e.early != notEarly
		if !e.putOff && !isEarly {
			return watch(e), nil
		}
		if (e.putOff || e.early == deferredEarly) && (depends == nil || depends.on(e)) && (off == nil || e.heldBack()) {
			off = e
		}
		if early == nil && !e.putOff {
			early = e
		}
	}
	if t.read < seq {
		if t.newer == nil {
			t.newer = make(chan struct{})
		}
		return nil, t.newer
	}
	if off != nil {
		first = watch(off)
		first.off, first.flush = true, off.heldBack()
		return first, nil
	}
	if early != nil {
		first = watch(early)
		first.early = true
		return first, nil
	}
	return nil, nil
}

// passedFor finds a message before seq to depend on that is passed on and not purged. With depends nil all are.
func (t *tracker) passedFor(seq uint64, depends *dependence) *entry {
	if t.front < t.acks && t.queue[t.front].seq < seq && (depends == nil || t.queue[t.front].seq <= depends.upTo) {
		return t.queue[t.front] // all that are acknowledged and not purged are passed on
	}
	if depends == nil {
		return nil
	}
	for x := range depends.xids {
		// The stream holds a transaction more than once where it was published again.
		if i := slices.IndexFunc(t.byXID[x], func(e *entry) bool { return e.seq < seq }); i >= 0 {
			return t.byXID[x][i]
		}
	}
	return nil
}

// passedBefore returns what is closed when a message before seq is purged that others depend on, and that
// is acknowledged already; nil if there is none.
func (t *tracker) passedBefore(seq uint64, depends *dependence) (moved <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.passedFor(seq, depends)
	if e == nil {
		return nil
	}
	if e.moved == nil {
		e.moved = make(chan struct{})
	}
	return e.moved
}

// dependence tells which messages that are deferred a batch of another lane must wait for: those of
// its transactions; for a flush, flushes; and all up to upTo. For a flush that replaces a backlog that is all of
// them, since what it replaces may depend on any.
type dependence struct {
	xids  map[uint64]struct{}
	flush bool
	upTo  uint64
}

func dependsOn(of *invalidation.Batch, upTo uint64) *dependence {
	d := &dependence{xids: make(map[uint64]struct{}, len(of.Stamp.XIDs)), flush: of.Flush, upTo: upTo}
	if replacesBacklog(of) {
		d.upTo = math.MaxUint64
	}
	for _, x := range of.Stamp.XIDs {
		d.xids[x] = struct{}{}
	}
	return d
}

func (d *dependence) on(e *entry) bool {
	if e.seq <= d.upTo || d.flush && e.batch.Flush {
		return true
	}
	for _, x := range e.batch.Stamp.XIDs {
		if _, in := d.xids[x]; in {
			return true
		}
	}
	return false
}
