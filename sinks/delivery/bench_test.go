package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// full is a stream that holds n messages, and says when all of them are acknowledged.
type full struct {
	message func(seq uint64) invalidation.Message
	n, read uint64
	acked   chan struct{}
}

func (s *full) Next(ctx context.Context) (invalidation.Message, error) {
	if s.read == s.n {
		<-ctx.Done()
		return invalidation.Message{}, ctx.Err()
	}
	s.read++
	return s.message(s.read), nil
}

func (*full) Announce(uint64) error { return nil }

func (s *full) Ack(seq uint64) error {
	if seq == s.n {
		close(s.acked)
	}
	return nil
}

type nothing struct{}

func (nothing) Purge(context.Context, []invalidation.Invalidation) error { return nil }

// BenchmarkLane is what a lane costs for one message, with a sink that does nothing.
func BenchmarkLane(b *testing.B) {
	paced := func(seq uint64) invalidation.Message {
		m := batch(seq, fmt.Sprintf("k%d", seq%1000))
		m.Batch.Items[0].Every = time.Millisecond
		return m
	}
	thousand := keys(1000)
	for _, c := range []struct {
		name    string
		message func(seq uint64) invalidation.Message
		second  time.Duration
	}{
		{"single", func(seq uint64) invalidation.Message { return batch(seq, fmt.Sprintf("k%d", seq%100_000)) }, 0},
		{"thousand", func(seq uint64) invalidation.Message { return batch(seq, thousand...) }, 0},
		{"every", paced, 0},
		{"second", func(seq uint64) invalidation.Message { return batch(seq, fmt.Sprintf("k%d", seq%100_000)) }, time.Millisecond},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			s := &full{message: c.message, n: uint64(b.N), acked: make(chan struct{})}
			cfg := Config{
				Name: "cache", Sink: nothing{}, Source: s, SecondPurge: c.second, Board: watermark.NewBoard(),
				Flush: func() []invalidation.Invalidation { return nil }, Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
			}
			cfg.Limits.Items = 1000
			lane := New(cfg)
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			b.ResetTimer()
			go func() { ended <- lane.Run(ctx, ctx) }()
			<-s.acked
			b.StopTimer()
			stop()
			require.NoError(b, <-ended)
		})
	}
}
