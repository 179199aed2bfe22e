package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// parked is the JSON form of an invalidation that a sink will never take.
type parked struct {
	V        int             `json:"v"`
	ParkedAt time.Time       `json:"parked_at"`
	Error    string          `json:"error"`
	Batch    json.RawMessage `json:"batch"`
}

// Park stores invalidations that a sink refused for good, and returns once that
// is durable. They stay until a human retries or drops them.
//
// A batch that says which templates lack values becomes one item for each rule and
// template, whose count rises as long as it is there.
func (s *Stream) Park(ctx context.Context, b *invalidation.Batch, cause error) error {
	if b.Unbuilt() {
		return s.parkUnbuilt(ctx, b, cause)
	}
	if _, err := s.storeParked(ctx, b, time.Now(), cause.Error()); err != nil {
		return err
	}
	failpoint.Crash("parking")
	return s.sync()
}

func (s *Stream) storeParked(ctx context.Context, b *invalidation.Batch, at time.Time, cause string) (seq uint64, err error) {
	batch, err := invalidation.Encode(s.cfg.Pipeline, b)
	if err != nil {
		return 0, err
	}
	data, err := json.Marshal(parked{V: 1, ParkedAt: at.UTC(), Error: cause, Batch: batch})
	if err != nil {
		return 0, err
	}
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: parkedSubject(s.cfg.Pipeline, b.Sink), Data: data})
	if err != nil {
		return 0, fmt.Errorf("park: %w", err)
	}
	return ack.Sequence, nil
}

// Parked counts the parked messages of every sink.
func (s *Stream) Parked(ctx context.Context) (map[string]uint64, error) {
	info, err := s.parked.Info(ctx, jetstream.WithSubjectFilter(parkedSubject(s.cfg.Pipeline, "*")))
	if err != nil {
		return nil, err
	}
	counts := make(map[string]uint64, len(info.State.Subjects))
	prefix := len(parkedSubject(s.cfg.Pipeline, ""))
	for subject, n := range info.State.Subjects {
		counts[subject[prefix:]] = n
	}
	return counts, nil
}
