package stream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/condition"
)

// Trimmer makes room at the head of the stream.
type Trimmer struct {
	s      *Stream
	pub    *Publisher
	floors func() uint64
	log    *condition.Log
}

// NewTrimmer returns a trimmer; floors gives the lowest sequence up to which
// every lane has acknowledged.
func NewTrimmer(s *Stream, pub *Publisher, floors func() uint64, log *slog.Logger) *Trimmer {
	return &Trimmer{s: s, pub: pub, floors: floors, log: condition.NewLog(log)}
}

// trimAt is the share of the stream's size past which its head is trimmed.
const trimAt = 0.7

// trimShare is the share of the stream's size after which the trimmer looks.
const trimShare = 50

// Between two looks while the stream takes nothing, and in any case, for what
// grows old.
const (
	trimPause = 20 * time.Millisecond
	agePause  = 10 * time.Second
)

// Run trims what all lanes have acknowledged whenever the stream is fuller than
// trimAt, and what is older than MaxAge besides, until the context ends, and
// returns nil. It looks when a fiftieth of the limit was written.
func (t *Trimmer) Run(ctx context.Context) error {
	defer t.log.Close()
	tick := time.NewTimer(trimPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-t.pub.full:
		case <-ctx.Done():
			return nil
		}
		t.pub.written.Store(0)
		if err := t.trim(ctx); err == nil {
			t.log.At(notTrimmed).End()
		} else if ctx.Err() == nil {
			t.log.At(notTrimmed).Observe("err", err, "attempts", condition.Sum(1))
		}
		pause := agePause
		if t.pub.Blocked() != "" {
			pause = trimPause
		}
		tick.Reset(pause)
	}
}

func (t *Trimmer) trim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := t.s.stream.Info(ctx)
	if err != nil {
		return err
	}
	state := info.State
	full := float64(state.Bytes) >= trimAt*float64(t.s.cfg.MaxBytes)
	old := time.Now().Add(-t.s.cfg.MaxAge)
	if state.Msgs == 0 || !full && !state.FirstTime.Before(old) {
		return nil
	}
	_, claim, found, err := t.s.LastClaim(ctx)
	if err != nil {
		return err
	}
	keep := t.floors() + 1
	if found {
		// The newest claim is the record against which gaps are found.
		keep = min(keep, claim)
	}
	if !full {
		if keep, err = t.firstSince(ctx, old, state.FirstSeq, keep); err != nil {
			return err
		}
	}
	if keep <= state.FirstSeq {
		return nil
	}
	// First the note, so that a head beyond it is known not to be ours.
	if err := t.s.note(ctx, trimmedSubject(t.s.cfg.Pipeline), keep); err != nil {
		return err
	}
	if err := t.s.stream.Purge(ctx, jetstream.WithPurgeSequence(keep)); err != nil {
		return fmt.Errorf("purge below %d: %w", keep, err)
	}
	return nil
}

// firstSince finds the first message in [lo, hi) that is not older than at, or
// hi. The stream has no holes between its head and its floor.
func (t *Trimmer) firstSince(ctx context.Context, at time.Time, lo, hi uint64) (uint64, error) {
	for lo < hi {
		mid := lo + (hi-lo)/2
		m, err := t.s.stream.GetMsg(ctx, mid)
		if err != nil {
			return 0, fmt.Errorf("read message %d: %w", mid, err)
		}
		if m.Time.Before(at) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}
