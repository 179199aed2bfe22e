package delivery

import (
	"context"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// Restoration is what a lane purges again, because its sink may hold what was purged before.
type Restoration struct {
	// Reason says why; empty until it is known whether there is anything to purge again.
	Reason string
	// Since is the time since which what was purged may be held again.
	Since time.Time
}

// restoration is a Restoration until the lane has passed seq; 0: it is not stored yet.
type restoration struct {
	Restoration
	seq uint64
	// changed is closed when the restoration is another one, or none.
	changed chan struct{}
}

// Distrust holds the lane's watermarks until Trust or, after Restore, until the lane has purged what that
// names. Purges go on.
func (l *Lane) Distrust(r Restoration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restores(&restoration{Restoration: r, changed: make(chan struct{})})
	l.machine.Distrust()
}

// Restore says up to which message the lane purges again what the sink may hold.
func (l *Lane) Restore(seq uint64) {
	l.mu.Lock()
	l.machine.HoldClaims(seq)
	if l.restoring != nil {
		r := *l.restoring
		r.seq, r.changed = seq, make(chan struct{})
		l.restores(&r)
	}
	l.mu.Unlock()
	l.trust()
}

// Trust ends Distrust: the sink holds nothing that was purged.
func (l *Lane) Trust() {
	l.mu.Lock()
	l.restores(nil)
	l.mu.Unlock()
	l.trust()
}

// restores replaces the restoration. The caller holds the lock.
func (l *Lane) restores(r *restoration) {
	if l.restoring != nil {
		close(l.restoring.changed)
	}
	l.restoring = r
}

func (l *Lane) trust() {
	l.mu.Lock()
	purged, settled := l.machine.Trust()
	l.mu.Unlock()
	for stage, claim := range map[watermark.Stage]*cdc.Claim{watermark.Purged: purged, watermark.Settled: settled} {
		if claim != nil {
			l.cfg.Board.Advance(watermark.Mark{Stage: stage, Target: l.cfg.Name}, claim.Position)
		}
	}
}

// Restoring returns what the lane purges again, false if there is nothing.
func (l *Lane) Restoring() (Restoration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.restoring
	if r == nil || r.seq > 0 && l.machine.PassedUpTo() >= r.seq {
		return Restoration{}, false
	}
	return r.Restoration, true
}

// Restored blocks until there is nothing that the lane purges again, and returns nil; or the context's
// error.
func (l *Lane) Restored(ctx context.Context) error {
	for {
		l.mu.Lock()
		r, lifted := l.restoring, l.lifted()
		l.mu.Unlock()
		if _, some := l.Restoring(); !some {
			return nil
		}
		// Once it is stored, the tracker holds claims back until it is purged.
		select {
		case <-r.changed:
		case <-lifted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ReadUpTo is the newest message that the lane has read: it has purged none behind that.
func (l *Lane) ReadUpTo() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machine.ReadUpTo()
}
