package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Consumer reads the messages of one sink, and the claims, in the order of the
// stream. Next is called by one goroutine, the other methods by any.
//
// It acknowledges by floor: Ack of a message acknowledges all before it. That is
// only safe if no message can go missing on the way, so the consumer counts
// deliveries, and starts over from the floor when one was skipped.
type Consumer struct {
	s    *Stream
	from jetstream.Stream
	sink string
	log  *condition.Log
	cons jetstream.Consumer
	// numbers finds lost manual purges. It is nil for a sink's queue, where holes of the
	// stream and the counters of claims show losses.
	numbers *numbers

	next uint64 // expected delivery number
	// fresh: reading has not begun; known: the lane was there before. They belong to
	// the goroutine of Next.
	fresh, known bool
	// flushReason is why the sink must be flushed with the next message; counted is the
	// newest claim seen, at countedSeq. They belong to the goroutine of Next.
	flushReason string
	answer      acceptance
	counted     cdc.Claim
	countedSeq  uint64
	// forged is the sequence of the newest claim for which the sink was flushed. It belongs to the goroutine
	// of Next.
	forged uint64

	floor atomic.Uint64

	mu sync.Mutex
	// acked is closed when the floor moves.
	acked  chan struct{}
	iter   jetstream.MessagesContext
	accept acceptance
	sizes  sizes
	// held are the messages delivered and not acknowledged, in order.
	held []held
}

type held struct {
	seq uint64
	msg jetstream.Msg
	// payload is what listeners are told.
	payload []byte
}

// ackWait is how long the server waits before it delivers an unacknowledged
// message again. A lane may hold messages for as long as a gate or a dead cache
// takes, and it starts from its floor by itself after a restart, so this is long.
const ackWait = 24 * time.Hour

// maxUnacked is how many messages the server hands out beyond the floor. A lane
// that puts a value or a flush off, waits for a gate, or for a second purge, holds its floor
// while it goes on; it bounds these so that together with its queue they stay
// below this.
const maxUnacked = 65536

// pullAhead is how many messages wait in memory for their turn: 2 MiB of full ones. It is
// not bounded by bytes, since a request that is tells its end with a message of its own,
// for which the client's buffer has no room beside pullAhead others that were not read
// yet; it drops what comes last then.
const pullAhead = 32

// A request for messages goes with the server that has it, and nothing but its missing
// signs of life tells: after two of them the request is sent again, to the leader at that time. A
// request lasts for two, so that no more of them than one, and its end, lie between
// messages that are not read, see pullAhead. An embedded server does not die alone.
const signOfLife = 3 * time.Second

func (s *Stream) pullOptions() []jetstream.PullMessagesOpt {
	opts := []jetstream.PullMessagesOpt{jetstream.PullMaxMessages(pullAhead)}
	if s.cfg.Shared {
		opts = append(opts, jetstream.PullHeartbeat(signOfLife), jetstream.PullExpiry(2*signOfLife))
	}
	return opts
}

// Consumer opens the lane of a sink where it left off; a new one begins with the
// stream. One that had another name formerly goes on with the backlog of that.
func (s *Stream) Consumer(ctx context.Context, sink, formerly string, log *slog.Logger) (*Consumer, error) {
	if formerly != "" {
		if err := s.adopt(ctx, sink, formerly, log); err != nil {
			return nil, err
		}
	}
	return s.consumer(ctx, s.stream, nil, sink, log, purgeSubject(s.cfg.Pipeline, sink), progressSubject(s.cfg.Pipeline))
}

func (s *Stream) consumer(ctx context.Context, from jetstream.Stream, numbers *numbers, sink string, log *slog.Logger, subjects ...string) (*Consumer, error) {
	cons, known, err := s.openLane(ctx, from, sink, subjects)
	if err != nil {
		return nil, fmt.Errorf("open the consumer of sink %s: %w", sink, err)
	}
	c := &Consumer{s: s, from: from, numbers: numbers, sink: sink, log: condition.NewLog(log), cons: cons, acked: make(chan struct{}), fresh: true, known: known}
	c.floor.Store(cons.CachedInfo().AckFloor.Stream)
	if s.cfg.Shared {
		return c, nil
	}
	c.fresh = false
	return c, c.reset(ctx, known)
}

// reset makes the server deliver again from the floor. known tells a lane that
// was there before from a new one, which begins with the stream.
func (c *Consumer) reset(ctx context.Context, known bool) error {
	c.drain(ctx)
	inspect := c.inspect
	if c.numbers != nil {
		inspect = c.numbers.inspect
	}
	if err := inspect(ctx, known); err != nil {
		return err
	}
	_, err := c.s.js.ResetConsumer(ctx, c.from.CachedInfo().Config.Name, c.sink)
	if err != nil {
		return fmt.Errorf("set consumer %s back to its floor: %w", c.sink, err)
	}
	iter, err := c.cons.Messages(c.s.pullOptions()...)
	if err != nil {
		return fmt.Errorf("read consumer %s: %w", c.sink, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.iter, c.next = iter, 1
	c.log.At(notRead).End()
	c.log.At(notReset).End()
	return nil
}

// drain ends the present requests for messages and waits for that: one that the
// server could still answer would swallow what it is about to deliver again.
func (c *Consumer) drain(ctx context.Context) {
	c.mu.Lock()
	iter := c.iter
	// What is held counts deliveries that the server is about to forget.
	c.iter, c.held = nil, nil
	c.mu.Unlock()
	if iter == nil {
		return
	}
	iter.Drain()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		if _, err := iter.Next(jetstream.NextContext(ctx)); err != nil {
			return
		}
	}
}

// Close stops reading. Acknowledgements already given stand.
func (c *Consumer) Close() {
	c.log.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.iter != nil {
		c.iter.Stop()
		c.iter = nil
	}
}

// Next returns the next message. It blocks until there is one or the context
// ends, rides over failures of the server, and may return a message again that
// it returned before.
func (c *Consumer) Next(ctx context.Context) (invalidation.Message, error) {
	pause := 50 * time.Millisecond
	for {
		err := c.begin(ctx)
		var m invalidation.Message
		if err == nil {
			m, err = c.read(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return m, err
		}
		c.log.At(notRead).Observe("err", err, "attempts", condition.Sum(1))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return invalidation.Message{}, context.Cause(ctx)
		}
		pause = min(2*pause, 5*time.Second)
		if c.fresh {
			continue
		}
		if err := c.reset(ctx, true); err != nil && ctx.Err() == nil {
			c.log.At(notReset).Observe("err", err, "attempts", condition.Sum(1))
		}
	}
}

// begin begins to read, where another process has left off meanwhile.
func (c *Consumer) begin(ctx context.Context) error {
	if !c.fresh {
		return nil
	}
	info, err := c.cons.Info(ctx)
	if err != nil {
		return err
	}
	c.floor.Store(max(c.floor.Load(), info.AckFloor.Stream))
	if err := c.reset(ctx, c.known || info.AckFloor.Stream > 0); err != nil {
		return err
	}
	c.fresh = false
	return nil
}

var errHole = errors.New("a delivery was skipped")

func (c *Consumer) read(ctx context.Context) (invalidation.Message, error) {
	c.mu.Lock()
	iter := c.iter
	c.mu.Unlock()
	if iter == nil {
		return invalidation.Message{}, errors.New("not connected")
	}
	msg, err := nextOf(ctx, iter)
	if err != nil {
		return invalidation.Message{}, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return invalidation.Message{}, err
	}
	if meta.Sequence.Consumer != c.next {
		return invalidation.Message{}, errHole
	}
	if c.numbers != nil {
		if err := c.numbers.received(ctx, msg); err != nil {
			return invalidation.Message{}, err
		}
	}
	c.next = meta.Sequence.Consumer + 1
	m, payload := c.decode(msg, meta)
	payload = c.attachFlush(&m, payload)
	c.mu.Lock()
	c.sizes.add(msg)
	// A message that the server grew tired of waiting for comes again, and is held already.
	if n := len(c.held); n == 0 || c.held[n-1].seq < meta.Sequence.Stream {
		c.held = append(c.held, held{m.Seq, msg, payload})
	}
	c.mu.Unlock()
	return m, nil
}

// decode reads a message, and returns its payload. One that
// cannot be read may have asked for anything, so it becomes a flush; so does a
// claim that was forged, since its author may have done more. A claim that is
// not proven is a message without content.
func (c *Consumer) decode(msg jetstream.Msg, meta *jetstream.MsgMetadata) (m invalidation.Message, payload []byte) {
	m.Seq = meta.Sequence.Stream
	reason := invalidation.FlushUnreadable
	if msg.Subject() == progressSubject(c.s.cfg.Pipeline) {
		if claim, err := decodeClaim(msg.Data(), c.s.key); err == nil {
			switch c.s.judge(claim, m.Seq) {
			case proven:
				m.Claim = &claim
				c.count(claim, m.Seq)
				return m, nil
			case unproven:
				return m, nil
			}
			c.s.reportForged(claim, m.Seq)
			if c.forged > c.floor.Load() {
				return m, nil // the flush for an earlier one is pending
			}
			c.forged, reason = m.Seq, string(cdc.GapUnprovenClaim)
		}
	} else if b, err := invalidation.Decode(msg.Data()); b != nil {
		b.Stamp.Trace = msg.Headers().Get(traceHeader)
		if b.Flush && !slices.Contains(invalidation.FlushReasons(), b.Reason) {
			b.Reason = invalidation.FlushUnreadable // reasons are labels of metrics, which data must not make
		}
		m.Batch, m.Unknown = b, err
		return m, msg.Data()
	}
	if reason == invalidation.FlushUnreadable {
		c.log.At(unreadable).Observe("seq", m.Seq, "messages", condition.Sum(1))
	} else {
		c.log.At(forgedClaim).Observe("seq", m.Seq, "claims", condition.Sum(1))
	}
	m.Batch = &invalidation.Batch{
		Sink: c.sink, Origin: invalidation.FromGap, Flush: true, Reason: reason,
		Stamp: cdc.Stamp{FirstCommit: meta.Timestamp, LastCommit: meta.Timestamp},
	}
	payload, err := invalidation.Encode(c.s.cfg.Pipeline, m.Batch)
	if err != nil {
		c.log.At(unencoded).Observe("err", err)
	}
	return m, payload
}

// Ack acknowledges the message at seq and all before it. A lost acknowledgement
// means that messages are delivered again after the next start.
func (c *Consumer) Ack(seq uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last jetstream.Msg
	for len(c.held) > 0 && c.held[0].seq <= seq {
		last = c.held[0].msg
		c.held = c.held[1:]
	}
	if last == nil {
		return nil
	}
	if err := last.Ack(); err != nil {
		return fmt.Errorf("acknowledge %d: %w", seq, err)
	}
	c.floor.Store(seq)
	close(c.acked)
	c.acked = make(chan struct{})
	return c.acknowledged(seq)
}

// Past blocks until this lane has acknowledged everything that lies before seq,
// which must be in the stream already; or until the context ends, and returns
// its cause.
//
// The floor of a lane moves only over its own messages, so one that has nothing
// left may have a floor below seq for ever, in a stream that is too full for
// the next claim. The server is therefore asked, too, see nothingLeft.
func (c *Consumer) Past(ctx context.Context, seq uint64) error {
	pause := 10 * time.Millisecond
	for {
		c.mu.Lock()
		acked := c.acked
		c.mu.Unlock()
		if c.Floor() >= seq {
			return nil
		}
		select {
		case <-acked:
			continue
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.nothingLeft(ctx, seq) {
			return nil
		}
		pause = min(2*pause, time.Second)
	}
}

// Floor is the sequence up to which everything is acknowledged.
func (c *Consumer) Floor() uint64 { return c.floor.Load() }

// Announce repeats a purged batch on the purged subject of core NATS, for
// in-process caches. It must come before the Ack of that message. It is at most
// once: a listener that lost its connection must drop what it holds.
func (c *Consumer) Announce(seq uint64) error {
	c.mu.Lock()
	i, found := slices.BinarySearchFunc(c.held, seq, func(h held, seq uint64) int { return cmp.Compare(h.seq, seq) })
	var payload []byte
	if found {
		payload = c.held[i].payload
	}
	c.mu.Unlock()
	if payload == nil {
		return nil
	}
	return c.s.nc.Publish(PurgedSubject(c.s.cfg.Pipeline, c.sink), payload)
}

// Backlog is the number of messages not yet acknowledged.
func (c *Consumer) Backlog(ctx context.Context) (uint64, error) {
	info, err := c.cons.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.NumPending + uint64(info.NumAckPending), nil
}
