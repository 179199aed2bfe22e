package delivery

import (
	"context"
	"errors"
	"sync"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// ErrPutOff is what a gate's Brief returns where it is held shut by nothing but
// purges that another lane has put off, because of a rule's period.
var ErrPutOff = errors.New("the purges that the gate waits for are deferred")

// Past blocks until this lane has purged what the stream holds before a message
// of a lane that waits for it, and returns nil; or the context's cause. floor
// does the same by the lane's acknowledgements alone, which stand still while
// one value is put off, and wait for second purges. So what is put off is waited for only where it comes from
// a transaction of the message: nothing else of the message depends on it. In
// that case, if brief is set, Past returns ErrPutOff as soon as nothing but that
// is left.
func (l *Lane) Past(ctx context.Context, m invalidation.Message, brief bool, floor func(ctx context.Context, seq uint64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	passed := make(chan error, 1)
	var asking sync.WaitGroup
	asking.Go(func() { passed <- floor(ctx, m.Seq) })
	var depends *dependence
	for {
		if lifted := l.tracker.holding(); lifted != nil {
			// A flush stands for what this lane has skipped.
			select {
			case <-lifted:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		first, newer := l.tracker.before(m.Seq, depends)
		switch {
		case first == nil && newer == nil:
			cancel()
			asking.Wait()
			return nil
		case first != nil && first.off && depends == nil:
			depends = dependsOn(m.Batch)
			continue
		case first != nil && first.off && brief:
			cancel()
			asking.Wait()
			return ErrPutOff
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
			moved := l.tracker.passedBefore(m.Seq, dependsOn(m.Batch))
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

// blocker is a message that another lane waits for. off is set where it is put off.
type blocker struct {
	off   bool
	moved <-chan struct{}
}

// before finds the first message before seq that is not purged; one that is put
// off only if it is one to depend on, and only if there is no other. With depends
// nil all are. If messages before seq are not all known, newer is closed when one
// more is.
func (t *tracker) before(seq uint64, depends *dependence) (first *blocker, newer <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	watch := func(e *entry) *blocker {
		if e.moved == nil {
			e.moved = make(chan struct{})
		}
		return &blocker{off: e.putOff, moved: e.moved}
	}
	var off *entry
	if depends == nil && t.front < t.acks && t.queue[t.front].seq < seq {
		off = t.queue[t.front] // passed on, as all are that are acknowledged and not purged
	} else if depends != nil {
		off = t.passedFor(seq, depends)
	}
	for _, e := range t.queue[t.acks:] {
		switch {
		case e.seq >= seq || e.purged || e.batch == nil:
		case !e.putOff:
			return watch(e), nil
		case off == nil && (depends == nil || depends.on(e.batch)):
			off = e
		}
	}
	if t.read < seq {
		if t.newer == nil {
			t.newer = make(chan struct{})
		}
		return nil, t.newer
	}
	if off != nil {
		return watch(off), nil
	}
	return nil, nil
}

// passedFor finds a message before seq to depend on that is passed on and not purged.
func (t *tracker) passedFor(seq uint64, depends *dependence) *entry {
	for x := range depends.xids {
		if e := t.byXID[x]; e != nil && e.seq < seq {
			return e
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

// dependence tells which batches that are put off a batch of another lane must wait for: those of
// its transactions, and for a flush, flushes.
type dependence struct {
	xids  map[uint64]struct{}
	flush bool
}

func dependsOn(of *invalidation.Batch) *dependence {
	d := &dependence{xids: make(map[uint64]struct{}, len(of.Stamp.XIDs)), flush: of.Flush}
	for _, x := range of.Stamp.XIDs {
		d.xids[x] = struct{}{}
	}
	return d
}

func (d *dependence) on(b *invalidation.Batch) bool {
	if d.flush && b.Flush {
		return true
	}
	for _, x := range b.Stamp.XIDs {
		if _, in := d.xids[x]; in {
			return true
		}
	}
	return false
}
