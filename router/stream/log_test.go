package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// away is a NATS server that cannot be reached: each error has another text.
type away struct{ asked int }

func (a *away) err() error {
	a.asked++
	return fmt.Errorf("no responders, request %d", a.asked)
}

type awayJetStream struct {
	*away
	jetstream.JetStream
}

func (a awayJetStream) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return nil, a.err()
}

type awayStream struct {
	*away
	jetstream.Stream
}

func (a awayStream) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return nil, a.err()
}

type awayConsumer struct {
	*away
	jetstream.Consumer
}

func (a awayConsumer) Info(context.Context) (*jetstream.ConsumerInfo, error) { return nil, a.err() }

// TestLogOfAServerThatIsDown: for an hour a lane reads, a publisher writes and the trimmer trims.
func TestLogOfAServerThatIsDown(t *testing.T) {
	for name, run := range map[string]func(ctx context.Context, s *Stream, a *away, log *slog.Logger) error{
		"a lane": func(ctx context.Context, s *Stream, a *away, log *slog.Logger) error {
			c := &Consumer{s: s, from: s.stream, sink: "cache", log: condition.NewLog(log), cons: awayConsumer{away: a}, acked: make(chan struct{}), fresh: true, known: true}
			defer c.Close()
			_, err := c.Next(ctx)
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("Next returned %w", err)
			}
			return nil
		},
		"publisher": func(ctx context.Context, s *Stream, _ *away, log *slog.Logger) error {
			p := NewPublisher(s, watermark.NewBoard(watermark.Mark{Stage: watermark.Published}), log)
			defer p.conditions.Close()
			p.insist(ctx, &nats.Msg{Subject: "s"})
			return nil
		},
		"trimmer": func(ctx context.Context, s *Stream, _ *away, log *slog.Logger) error {
			return NewTrimmer(s, NewPublisher(s, nil, log), func() uint64 { return 0 }, log).Run(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var buf bytes.Buffer
				a := &away{}
				s := &Stream{cfg: Config{Pipeline: "shop", Shared: true}, js: awayJetStream{away: a}, stream: awayStream{away: a}}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- run(ctx, s, a, slog.New(slog.NewTextHandler(&buf, nil))) }()
				time.Sleep(time.Hour - time.Second)
				stop()
				require.NoError(t, <-done)
				require.Greater(t, a.asked, 300)
				require.LessOrEqual(t, strings.Count(buf.String(), "\n"), 6, buf.String())
			})
		})
	}
}
