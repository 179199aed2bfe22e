package delivery

import (
	"context"
	"errors"
	"sync"

	"github.com/walpurge/walpurge/rules"
)

// ErrPutOff is what a gate's Brief returns where it is held shut by nothing but
// purges that another lane has put off, because of a rule's period.
var ErrPutOff = errors.New("the purges that the gate waits for are put off")

// Past blocks until this lane has purged what the stream holds before a message
// of a lane that waits for it, and returns nil; or the context's cause. floor
// does the same by the lane's acknowledgements alone, which stand still while
// one value is put off, and wait for second purges. So what is put off is waited for only where it comes from
// a transaction of the message: nothing else of the message depends on it. In
// that case, if brief is set, Past returns ErrPutOff as soon as nothing but that
// is left.
func (l *Lane) Past(ctx context.Context, m rules.Message, brief bool, floor func(ctx context.Context, seq uint64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	passed := make(chan error, 1)
	var asking sync.WaitGroup
	asking.Go(func() { passed <- floor(ctx, m.Seq) })
	var depends func(*rules.Batch) bool
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
			return err
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
func (t *tracker) before(seq uint64, depends func(*rules.Batch) bool) (first *blocker, newer <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	watch := func(e *entry) *blocker {
		if e.moved == nil {
			e.moved = make(chan struct{})
		}
		return &blocker{off: e.putOff, moved: e.moved}
	}
	var off *entry
	for _, e := range t.queue {
		switch {
		case e.seq >= seq || e.purged || e.batch == nil:
		case !e.putOff:
			return watch(e), nil
		case off == nil && (depends == nil || depends(e.batch)):
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

// dependsOn tells which batches that are put off a batch of another lane must wait
// for: those of its transactions, and for a flush, flushes.
func dependsOn(of *rules.Batch) func(*rules.Batch) bool {
	xids := make(map[uint64]struct{}, len(of.Stamp.XIDs))
	for _, x := range of.Stamp.XIDs {
		xids[x] = struct{}{}
	}
	return func(b *rules.Batch) bool {
		if of.Flush && b.Flush {
			return true
		}
		for _, x := range b.Stamp.XIDs {
			if _, in := xids[x]; in {
				return true
			}
		}
		return false
	}
}
