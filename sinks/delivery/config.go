package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// Source is where a lane's messages come from.
type Source interface {
	// Next returns the next message in the order of the stream, or the context's
	// error. It may return a message again that it returned before.
	Next(ctx context.Context) (invalidation.Message, error)
	// Announce tells listeners that the batch at seq was purged.
	Announce(seq uint64) error
	// Ack gives up every message up to and with seq.
	Ack(seq uint64) error
}

// Gate holds purges back until something is true of the transactions they come
// from.
type Gate struct {
	// Name is a metric label.
	Name string
	// Member tells gates of one name apart, such as those of read replicas; empty for the only one. They
	// follow each other in Config.Gates.
	Member string
	// Wait blocks until the gate is open for the message, which holds a batch, or
	// the context ends.
	Wait func(ctx context.Context, m invalidation.Message) error
	// Brief, where it is not nil, is waited for in its place while patience lasts.
	// It returns ErrPutOff where the gate is held shut by nothing but purges that
	// are deferred on purpose, so that patience would be in vain.
	Brief func(ctx context.Context, m invalidation.Message) error
	// Early, where it is not nil, is waited for in Brief's place when the message is to be purged early because
	// of another gate. It also returns ErrPurgedEarly, where the gate is closed only by what another lane has purged
	// early.
	Early func(ctx context.Context, m invalidation.Message) error
	// Ordered: when the gate is open for a message, it is for all before it. So what
	// a flush replaces need not wait: the flush does. Such gates come last.
	Ordered bool
}

// Config is what a lane is made of.
type Config struct {
	Name   string
	Sink   sinks.Sink
	Limits sinks.Limits
	// Pace holds calls back; lanes of one account share its buckets.
	Pace   Pace
	Source Source
	// Hand is where manual purges come from; they go ahead of the
	// queue. Nil: there are none.
	Hand  Source
	Gates []Gate
	// MaxWait is the patience with each gate, from when it was found closed. A message that is purged early
	// because of one gate has waited for the others.
	MaxWait time.Duration
	// MaxPutOff bounds what stays in the stream for values that are deferred, in
	// bytes; past it the oldest is purged before its time. 0: no such bound.
	MaxPutOff int64
	// SecondPurge is how long after its first purge was acknowledged everything is
	// purged again, against fills that were under way; 0: it is not.
	SecondPurge time.Duration
	// Flush tells what purges everything that the sink may hold.
	Flush func() []invalidation.Invalidation
	// FlushPace is over what time a flush is spread, FlushAtMost how long after one
	// began the next may begin; those that wait by then are one. With either,
	// other purges go on beside a flush. 0: at once.
	FlushPace, FlushAtMost time.Duration
	Overflow               Overflow
	// Inherited is zero where no rule defers a value of the sink.
	Inherited Inherited
	// Distrusted: the sink may hold again what was purged, until Trust or Restore is called.
	Distrusted bool
	// Collapsed is told how many values of a rule coarser ones were purged instead
	// of. Nil: nobody counts.
	Collapsed func(rule string, values int)
	// Flushing is told the reason of each flush as it begins. Nil: nothing is called.
	Flushing func(reason string)
	// Park stores invalidations that the sink will never take, durably.
	Park    func(ctx context.Context, b *invalidation.Batch, cause error) error
	Board   *watermark.Board
	Metrics *Metrics
	Logger  *slog.Logger
	// Tracer is told how long batches of traced transactions waited for their gates,
	// and how long their purge took. Nil: nothing is called.
	Tracer Tracer
}
