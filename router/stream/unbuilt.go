package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// unbuiltKey is what there is one parked item of at each sink.
type unbuiltKey struct {
	rule, template string
	of             invalidation.Kind
}

// ErrNoValues says that a parked item has no values that could be tried again.
var ErrNoValues = errors.New("the item has no values to retry: they could not be built; purge what its template names, then drop the item")

// parkUnbuilt raises the count of the items that a batch is about, or parks them, and returns once
// that is durable. An item with a higher count is stored before the one that it replaces is deleted,
// so it may be there twice after a crash, until the sink is read.
func (s *Stream) parkUnbuilt(ctx context.Context, b *invalidation.Batch, cause error) error {
	s.unbuiltMu.Lock()
	defer s.unbuiltMu.Unlock()
	known, err := s.unbuiltOf(ctx, b.Sink)
	if err != nil {
		return err
	}
	for i := range b.Items {
		for _, u := range b.Items[i].Unbuilt {
			key := unbuiltKey{b.Items[i].Rule, u.Template, u.Of}
			one := &invalidation.Batch{Sink: b.Sink, Origin: b.Origin, Stamp: b.Stamp, Items: []invalidation.Item{{Rule: key.rule, Unbuilt: []invalidation.Unbuilt{u}}}}
			at := time.Now()
			before, err := s.parkedAt(ctx, known[key])
			if err == nil && before == nil {
				// Another process may have parked it, or counted it up, meanwhile.
				delete(s.unbuilt, b.Sink)
				if known, err = s.unbuiltOf(ctx, b.Sink); err == nil {
					before, err = s.parkedAt(ctx, known[key])
				}
			}
			if err != nil {
				return err
			}
			if before != nil {
				one.Items[0].Unbuilt[0].Count += before.Batch.Items[0].Unbuilt[0].Count
				last := one.Stamp.LastCommit
				one.Stamp, at = before.Batch.Stamp, before.At
				one.Stamp.LastCommit = last
			}
			seq, err := s.storeParked(ctx, one, at, cause.Error())
			if err != nil {
				return err
			}
			failpoint.Crash("parking")
			known[key] = seq
			if before != nil {
				if err := s.parked.DeleteMsg(ctx, before.ID); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
					return fmt.Errorf("replace parked %d: %w", before.ID, err)
				}
			}
		}
	}
	return s.sync()
}

// unbuiltOf lists the items of a sink. Of two for one template, the newer counts what the older does.
func (s *Stream) unbuiltOf(ctx context.Context, sink string) (map[unbuiltKey]uint64, error) {
	if known := s.unbuilt[sink]; known != nil {
		return known, nil
	}
	known := make(map[unbuiltKey]uint64)
	var replaced []uint64
	err := s.ListParked(ctx, sink, func(p ParkedBatch) bool {
		if p.Batch.Unbuilt() {
			u := p.Batch.Items[0].Unbuilt[0]
			key := unbuiltKey{p.Batch.Items[0].Rule, u.Template, u.Of}
			if older, twice := known[key]; twice {
				replaced = append(replaced, older)
			}
			known[key] = p.ID
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, seq := range replaced {
		if err := s.parked.DeleteMsg(ctx, seq); err != nil {
			return nil, fmt.Errorf("drop parked %d: %w", seq, err)
		}
	}
	if s.unbuilt == nil {
		s.unbuilt = make(map[string]map[unbuiltKey]uint64)
	}
	s.unbuilt[sink] = known
	return known, nil
}

// parkedAt reads a parked message, nil without one.
func (s *Stream) parkedAt(ctx context.Context, seq uint64) (*ParkedBatch, error) {
	if seq == 0 {
		return nil, nil
	}
	m, err := s.parked.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read parked %d: %w", seq, err)
	}
	p, err := decodeParked(m)
	return &p, err
}
