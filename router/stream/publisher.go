package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// window is how many published batches may await their acknowledgement.
const window = 64

// Publisher writes batches and claims. Its methods are called by one goroutine;
// Run settles the acknowledgements in another.
type Publisher struct {
	s     *Stream
	board *watermark.Board
	log   *slog.Logger
	queue chan pending
	// conditions is the log of what repeats.
	conditions *condition.Log
	// written counts payload bytes since the trimmer last looked, and full asks it
	// to look: much was written, or the stream takes no more.
	written atomic.Int64
	full    chan struct{}
	blocked atomic.Pointer[block]
	past    [len(blockReasons)]atomic.Int64 // nanoseconds blocked, by reason
	epoch   uint64
	// newest is the sequence of the newest claim that this publisher has stored.
	newest  uint64
	counter uint64
	// sent counts the batches sent; repeat is the last of those that must be sent
	// once more, see settle.
	sent   atomic.Uint64
	repeat uint64
	// claimed is the newest claim asked for, and since the bytes published after
	// it; only the caller's goroutine touches them.
	claimed cdc.Claim
	since   int64
	// total counts the bytes published, only by the caller's goroutine; stored is
	// what total was when the newest claim in the stream was asked for, and moved
	// tells that it rose.
	total  int64
	stored atomic.Int64
	moved  chan struct{}
}

// pending is a batch whose acknowledgement is awaited, or a claim that waits
// for all batches before it.
type pending struct {
	nth    uint64 // counts batches
	msg    *nats.Msg
	future jetstream.PubAckFuture
	claim  *cdc.Claim
	total  int64 // bytes published before the claim
	done   chan struct{}
	traced traced
}

// traced is the trace that a batch belongs to, and since when it is on its way.
type traced struct {
	parent, sink string
	began        time.Time
}

// tracedAt gives a message the trace of its batch, if that has one.
func tracedAt(msg *nats.Msg, b *invalidation.Batch) traced {
	if b.Stamp.Trace == "" {
		return traced{}
	}
	msg.Header = nats.Header{traceHeader: {b.Stamp.Trace}}
	return traced{b.Stamp.Trace, b.Sink, time.Now()}
}

// NewPublisher returns a publisher; Run must be running for it to make progress.
func NewPublisher(s *Stream, board *watermark.Board, log *slog.Logger) *Publisher {
	return &Publisher{s: s, board: board, log: log, conditions: condition.NewLog(log), queue: make(chan pending, window), full: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
}

// Publish sends a batch. It returns once the batch is on its way, and blocks
// while as many as the window allows await their acknowledgement. A batch may
// be stored more than once; of every two batches, the last copies lie in the
// order of the calls.
func (p *Publisher) Publish(ctx context.Context, b *invalidation.Batch) error {
	b.Stamp.Epoch = p.epoch
	data, err := invalidation.Encode(p.s.cfg.Pipeline, b)
	if err != nil {
		return fmt.Errorf("encode a batch for %s: %w", b.Sink, err)
	}
	msg := &nats.Msg{Subject: purgeSubject(p.s.cfg.Pipeline, b.Sink), Data: data}
	traced := tracedAt(msg, b)
	// A refusal here is settled like one that comes back: by sending again.
	future, _ := p.s.js.PublishMsgAsync(msg)
	failpoint.Crash("published")
	if p.written.Add(int64(len(data))) >= p.s.cfg.MaxBytes/trimShare {
		p.askForRoom()
	}
	if err := p.enqueue(ctx, pending{nth: p.sent.Add(1), msg: msg, future: future, traced: traced}); err != nil {
		return err
	}
	// The stream is trimmed up to its newest claim at most, so that must not fall
	// far behind in a transaction larger than the stream: it is said again.
	p.total += int64(len(data))
	if p.since += int64(len(data)); p.since > p.s.cfg.MaxBytes/repeatClaim {
		if err := p.Claim(ctx, p.claimed.Position, p.claimed.CommitTime); err != nil {
			return err
		}
	}
	return p.awaitClaim(ctx)
}

// awaitClaim keeps what lies behind the newest claim in the stream small. A claim
// waits for the batches before it, and later ones go on meanwhile: were they to
// fill the stream, nothing could be trimmed, and no claim could be stored.
func (p *Publisher) awaitClaim(ctx context.Context) error {
	for p.total-p.stored.Load() > p.s.cfg.MaxBytes/unclaimed {
		if p.since > 0 {
			if err := p.Claim(ctx, p.claimed.Position, p.claimed.CommitTime); err != nil {
				return err
			}
		}
		select {
		case <-p.moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// askForRoom wakes the trimmer; requests that come together are one.
func (p *Publisher) askForRoom() {
	select {
	case p.full <- struct{}{}:
	default:
	}
}

// unclaimed is the share of the stream's size that may lie behind its newest claim.
const unclaimed = 4

// repeatClaim is the share of the stream's size after which a claim is repeated.
const repeatClaim = 16

// Claim publishes a progress message once all batches before it are
// acknowledged. It does not wait for that.
func (p *Publisher) Claim(ctx context.Context, at cdc.Position, committed time.Time) error {
	p.claimed.Epoch, p.claimed.Position, p.claimed.CommitTime, p.since = p.epoch, at, committed, 0
	c := p.claimed
	return p.enqueue(ctx, pending{claim: &c, total: p.total})
}

// Flushed blocks until everything published and claimed so far is acknowledged.
func (p *Publisher) Flushed(ctx context.Context) error {
	done := make(chan struct{})
	if err := p.enqueue(ctx, pending{done: done}); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Publisher) enqueue(ctx context.Context, e pending) error {
	select {
	case p.queue <- e:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Epoch is the newest epoch that this process has opened or tried to open. It may be
// called by any goroutine.
func (p *Publisher) Epoch() uint64 { return p.s.epoch.Load() }

// Begin opens a new epoch with its first claim, whose Counter and CommitTime Begin sets. The claim is a
// compare-and-set against the newest one, of which after is the sequence (0 for
// none): if another reader began in between, it fails, and this one must not
// publish. Begin blocks until the claim is stored.
func (p *Publisher) Begin(ctx context.Context, first cdc.Claim, after uint64) error {
	if err := p.Flushed(ctx); err != nil {
		return err
	}
	p.s.epoch.Store(first.Epoch)
	first.Counter, first.CommitTime, first.Leader = 1, time.Now(), p.s.cfg.Leader
	data, err := encodeClaim(first, p.s.key)
	if err != nil {
		return err
	}
	ack, err := p.s.js.PublishMsg(ctx, &nats.Msg{
		Subject: progressSubject(p.s.cfg.Pipeline), Data: data,
		Header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(after, 10)}},
	})
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", first.Epoch, err)
	}
	p.s.first.CompareAndSwap(nil, &firstEpoch{epoch: first.Epoch, seq: ack.Sequence, at: first.Position})
	p.epoch, p.counter, p.newest = first.Epoch, 1, ack.Sequence
	p.stored.Store(p.total)
	p.claimed, p.since = first, 0
	p.board.Advance(watermark.Mark{Stage: watermark.Published}, first.Position)
	return nil
}

// Run settles acknowledgements until the context ends, and returns nil; or an error that is
// ErrGone when the stream is not the one any more that it was opened with.
func (p *Publisher) Run(ctx context.Context) error {
	defer p.conditions.Close()
	var carry *pending
	for {
		e, ok := p.next(ctx, &carry)
		if !ok {
			return nil
		}
		switch {
		case e.done != nil:
			close(e.done)
		case e.claim != nil:
			// A claim that another one follows at once says nothing more.
			carry = p.peek()
			if carry != nil && carry.claim != nil {
				continue
			}
			if err := p.claim(ctx, e); err != nil {
				return err
			}
		default:
			if !p.settle(ctx, e) {
				return nil // a claim behind it would be a lie
			}
			if t := e.traced; t.parent != "" && p.s.cfg.Tracer != nil {
				p.s.cfg.Tracer.Span(t.parent, "publish", t.sink, t.began, time.Now())
			}
		}
	}
}

func (p *Publisher) next(ctx context.Context, carry **pending) (pending, bool) {
	if *carry != nil {
		e := **carry
		*carry = nil
		return e, true
	}
	select {
	case e := <-p.queue:
		return e, true
	case <-ctx.Done():
		return pending{}, false
	}
}

func (p *Publisher) peek() *pending {
	select {
	case e := <-p.queue:
		return &e
	default:
		return nil
	}
}

// settle sees to it that a batch is in the stream, behind every batch before it.
//
// One that was refused is sent again, and then lies behind those that were sent
// meanwhile. Were it a batch for the cache and the next one for the edge, the
// edge would be purged first. So whatever was sent before the repetition is sent
// once more after it. It returns false if the context ended first.
func (p *Publisher) settle(ctx context.Context, e pending) bool {
	refused := true
	if e.future != nil {
		select {
		case <-e.future.Ok():
			refused = false
		case err := <-e.future.Err():
			p.log.Debug("a batch was refused, sending it again", "err", err)
		case <-ctx.Done():
			return false
		}
	}
	if !refused && e.nth > p.repeat {
		return true
	}
	if _, err := p.insist(ctx, e.msg); err != nil {
		return false
	}
	if refused {
		p.repeat = p.sent.Load()
	}
	return true
}

// claim stores a claim behind the newest one of this publisher. Were it stored in a stream that was made in
// the place of the one that was lost, it would claim for it what only the lost one had.
func (p *Publisher) claim(ctx context.Context, e pending) error {
	c := e.claim
	p.counter++
	c.Counter = p.counter
	data, err := encodeClaim(*c, p.s.key)
	if err != nil {
		p.conditions.At(claimLost).Observe("err", err)
		return nil
	}
	msg := &nats.Msg{Subject: progressSubject(p.s.cfg.Pipeline), Data: data, Header: nats.Header{}}
	failpoint.Crash("stored")
	for stored := false; !stored; {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(p.newest, 10))
		seq, err := p.insist(ctx, msg)
		stored = err == nil
		if errors.Is(err, errNotNewest) {
			seq, stored, err = p.afterConflict(ctx, c)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		p.newest = seq
	}
	p.stored.Store(e.total)
	select {
	case p.moved <- struct{}{}:
	default:
	}
	p.board.Advance(watermark.Mark{Stage: watermark.Published}, c.Position)
	return nil
}

// afterConflict finds the newest claim, where it is not the one that was expected. It is the claim itself
// where its acknowledgement was lost. Behind one of a newer epoch there is nothing to claim any more, so
// it waits until the context ends.
func (p *Publisher) afterConflict(ctx context.Context, c *cdc.Claim) (seq uint64, stored bool, err error) {
	for {
		newest, seq, found, err := p.s.LastClaim(ctx)
		switch {
		case err != nil:
		case !found || seq < p.newest:
			return 0, false, fmt.Errorf("stream %s: %w", streamName(p.s.cfg.Pipeline), ErrGone)
		case newest.Epoch <= c.Epoch:
			return seq, newest.Own && newest.Epoch == c.Epoch && newest.Counter == c.Counter, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, false, ctx.Err()
		}
	}
}

// errNotNewest is a refusal, since the newest message of the subject is another than the one expected.
var errNotNewest = errors.New("another message is the newest of its subject")

// insist publishes until the stream has taken the message or the context ends, and returns its
// sequence, the context's error, or errNotNewest.
// It tries at once: when room was made, a window of refused messages must not
// wait one by one.
func (p *Publisher) insist(ctx context.Context, msg *nats.Msg) (seq uint64, err error) {
	pause := 20 * time.Millisecond
	defer func() { p.unblock(err == nil) }()
	for patience := askAgain; ; patience = min(2*patience, 10*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, patience)
		ack, err := p.s.js.PublishMsg(attempt, msg)
		cancel()
		if err == nil {
			return ack.Sequence, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		// A cluster refuses with the second code.
		if api := (*jetstream.APIError)(nil); errors.As(err, &api) &&
			(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
			return 0, errNotNewest
		}
		p.block(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		pause = min(2*pause, time.Second)
	}
}
