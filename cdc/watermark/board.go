package watermark

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/walpurge/walpurge/cdc"
)

// Stage is a station of the pipeline.
type Stage string

// The stages, in the order in which a change passes them.
const (
	// Received: read from the replication stream.
	Received Stage = "received"
	// Published: acknowledged by JetStream.
	Published Stage = "published"
	// Synced: on disk.
	Synced Stage = "synced"
	// Replayed: a read replica shows it.
	Replayed Stage = "replayed"
	// Purged: a sink purged it once, begun after its gates opened.
	Purged Stage = "purged"
	// Settled: every repeat that was promised is done too.
	Settled Stage = "settled"
	// Confirmed: what PostgreSQL was told it may forget.
	Confirmed Stage = "confirmed"
)

// Mark names one watermark: a stage, and the sink or replica for the stages
// that have one each.
type Mark struct {
	Stage  Stage
	Target string
}

// Reading is a mark and where it stands.
type Reading struct {
	Mark
	Position cdc.Position
}

// Board holds the watermarks of one pipeline. All methods are safe for
// concurrent use.
type Board struct {
	mu      sync.Mutex
	marks   map[Mark]cdc.Position
	line    line
	changed chan struct{}
}

// NewBoard returns a board on which the given marks stand at zero, so that a
// sink that never advanced holds back what waits for all sinks.
func NewBoard(marks ...Mark) *Board {
	b := &Board{marks: make(map[Mark]cdc.Position)}
	for _, m := range marks {
		b.marks[m] = cdc.Position{}
	}
	return b
}

// Advance moves a mark forward and reports whether it moved. A position that is
// not after the present one changes nothing, except that a position of another
// database cluster replaces it: the caller has by then treated that as a gap.
func (b *Board) Advance(m Mark, p cdc.Position) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.marks[m]
	if old.SystemID == p.SystemID && !old.Before(p) {
		return false
	}
	b.marks[m] = p
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return true
}

// Get returns where a mark stands, zero if it never moved.
func (b *Board) Get(m Mark) cdc.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.marks[m]
}

// Watch returns a channel that is closed at the next movement of any mark.
// Take the channel before reading the marks, or a movement may be missed.
func (b *Board) Watch() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// Wait blocks until the mark stands at or after p, and returns nil; or until
// the context ends, and returns its error.
func (b *Board) Wait(ctx context.Context, m Mark, p cdc.Position) error {
	for {
		changed := b.Watch()
		if !b.Get(m).Before(p) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Snapshot returns all marks, sorted by stage and target.
func (b *Board) Snapshot() []Reading {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Reading, 0, len(b.marks))
	for m, p := range b.marks {
		out = append(out, Reading{Mark: m, Position: p})
	}
	slices.SortFunc(out, func(x, y Reading) int {
		return cmp.Or(cmp.Compare(order[x.Stage], order[y.Stage]), cmp.Compare(x.Target, y.Target))
	})
	return out
}

var order = map[Stage]int{Received: 1, Published: 2, Synced: 3, Confirmed: 4, Replayed: 5, Purged: 6, Settled: 7}

// Policy says which mark the slot may be confirmed to.
type Policy uint8

const (
	// ConfirmSynced: the stream is embedded and what was synced is on our disk.
	ConfirmSynced Policy = iota
	// ConfirmPublished: an external stream with three or more replicas.
	ConfirmPublished
	// ConfirmSettled: nothing but the sinks' own work is relied on.
	ConfirmSettled
)

// Safe returns the position up to which PostgreSQL may forget: under
// ConfirmSettled the least of all sinks, zero while one never advanced. It
// never lies beyond what was received, whatever the other marks say.
func (b *Board) Safe(policy Policy) cdc.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.safe(policy)
	received := b.marks[Mark{Stage: Received}]
	switch {
	case received.SystemID != p.SystemID:
		return cdc.Position{}
	case received.Before(p):
		return received
	}
	return p
}

func (b *Board) safe(policy Policy) cdc.Position {
	switch policy {
	case ConfirmSynced:
		return b.marks[Mark{Stage: Synced}]
	case ConfirmPublished:
		return b.marks[Mark{Stage: Published}]
	}
	var least cdc.Position
	first := true
	for m, p := range b.marks {
		if m.Stage == Settled && (first || p.Before(least)) {
			least, first = p, false
		}
	}
	return least
}
