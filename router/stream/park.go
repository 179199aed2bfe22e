package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules"
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
func (s *Stream) Park(ctx context.Context, b *rules.Batch, cause error) error {
	batch, err := encode(s.cfg.Pipeline, b)
	if err != nil {
		return err
	}
	data, err := json.Marshal(parked{V: 1, ParkedAt: time.Now().UTC(), Error: cause.Error(), Batch: batch})
	if err != nil {
		return err
	}
	if _, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: parkedSubject(s.cfg.Pipeline, b.Sink), Data: data}); err != nil {
		return fmt.Errorf("park: %w", err)
	}
	failpoint.Crash("parking")
	return s.sync()
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
