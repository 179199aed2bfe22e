package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// historySubject is where the record of a sink's cache is kept.
func historySubject(pipeline, sink string) string { return acceptedSubject(pipeline, "history", sink) }

// History returns the record of a sink's cache that StoreHistory stored last, nil if nothing is stored.
func (s *Stream) History(ctx context.Context, sink string) ([]byte, error) {
	m, err := s.hand.GetLastMsgForSubject(ctx, historySubject(s.cfg.Pipeline, sink))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of the cache of %s: %w", sink, err)
	}
	return m.Data, nil
}

// StoreHistory replaces the record of a sink's cache.
func (s *Stream) StoreHistory(ctx context.Context, sink string, record []byte) error {
	if err := s.noteData(ctx, s.hand, historySubject(s.cfg.Pipeline, sink), record); err != nil {
		return fmt.Errorf("record the history of the cache of %s: %w", sink, err)
	}
	return nil
}

// Created tells this stream from one that is created in its place.
func (s *Stream) Created() string {
	return s.created[streamName(s.cfg.Pipeline)].UTC().Format(time.RFC3339Nano)
}

// ManualDone is the number of the newest manual purge of a sink that was carried out.
func (s *Stream) ManualDone(ctx context.Context, sink string) (uint64, error) {
	return s.readNote(ctx, doneSubject(s.cfg.Pipeline, sink))
}

// Again says what of a sink is to be purged again.
type Again struct {
	Sink, Reason string
	// Formerly are other names under which its batches were stored.
	Formerly []string
	// After is the floor after which all batches up to UpTo are purged again. Where the stream lacks some
	// of those after Reach, the sink is flushed.
	After, Reach, UpTo uint64
	// Flush: it is flushed in any case.
	Flush bool
}

// Repeated is what PurgeAgain stored. Seq is its last message, 0 where there was nothing to purge again.
type Repeated struct {
	Seq    uint64
	Values int
	Flush  bool
}

// PurgeAgain stores the values of a sink's batches once more, behind everything that its lane has in the
// stream, each value once; or a flush where that is too much for the stream, or where the stream does not
// hold all of them, or where one of them is a flush. It returns once all is durable. It may take a minute.
// After an error, a part may be stored.
func (s *Stream) PurgeAgain(ctx context.Context, a Again) (Repeated, error) {
	if a.Flush {
		return s.flushAgain(ctx, a)
	}
	info, err := s.stream.Info(ctx)
	if err != nil {
		return Repeated{}, fmt.Errorf("purge again: %w", err)
	}
	if info.State.FirstSeq > a.Reach+1 {
		return s.flushAgain(ctx, a)
	}
	claim, _, _, err := s.LastClaim(ctx)
	if err != nil {
		return Repeated{}, err
	}
	c := &collection{limit: s.cfg.MaxBytes / againShare, seen: make(map[invalidation.Invalidation]struct{}), at: claim.Position}
	for _, sink := range append([]string{a.Sink}, a.Formerly...) {
		subject := purgeSubject(s.cfg.Pipeline, sink)
		for seq := max(a.After+1, info.State.FirstSeq); seq <= a.UpTo; {
			m, err := s.stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence > a.UpTo {
				break
			}
			if err != nil {
				return Repeated{}, fmt.Errorf("purge again: read message %d: %w", seq, err)
			}
			seq = m.Sequence + 1
			b, err := invalidation.Decode(m.Data)
			if err != nil || b.Flush || !c.add(b, len(m.Data)) {
				return s.flushAgain(ctx, a)
			}
		}
	}
	r := Repeated{Values: len(c.seen)}
	for _, b := range c.batches {
		if len(b.Items) == 0 {
			continue
		}
		b.Sink, b.Reason = a.Sink, a.Reason
		data, err := invalidation.Encode(s.cfg.Pipeline, b)
		if err != nil {
			return r, fmt.Errorf("purge again: %w", err)
		}
		ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: purgeSubject(s.cfg.Pipeline, a.Sink), Data: data})
		if isFull(err) {
			return s.flushAgain(ctx, a)
		}
		if err != nil {
			return r, fmt.Errorf("purge again: %w", err)
		}
		r.Seq = ack.Sequence
	}
	return r, s.sync()
}

func (s *Stream) flushAgain(ctx context.Context, a Again) (Repeated, error) {
	seq, err := s.Flush(ctx, a.Sink, a.Reason)
	return Repeated{Seq: seq, Flush: true}, err
}

const (
	// againShare is the share of the stream's size that what is purged again may take, and
	// againValues the number of values: it is held in memory.
	againShare  = 8
	againValues = 250_000
	// againBatch bounds the size of one batch by that of those that its values are from.
	againBatch = 256 << 10
)

// collection gathers the values of batches, each once.
type collection struct {
	limit   int64 // bytes
	bytes   int64
	seen    map[invalidation.Invalidation]struct{}
	batches []*invalidation.Batch
	open    int // bytes of the messages that the last batch is from
	at      cdc.Position
}

// add takes the values of a batch that was stored as so many bytes, or returns false if there are too many.
func (c *collection) add(b *invalidation.Batch, size int) bool {
	if c.open += size; len(c.batches) > 0 && c.open > againBatch {
		c.batches, c.open = append(c.batches, c.batch(b)), size
	}
	for i := range b.Items {
		item := b.Items[i]
		item.Unbuilt = nil // they are parked already
		n := 0
		for k, values := range item.Values {
			item.Values[k] = nil
			for _, v := range values {
				inv := invalidation.Invalidation{Kind: invalidation.Kind(k), Value: v, Rule: item.Rule}
				if _, dup := c.seen[inv]; dup {
					continue
				}
				c.seen[inv] = struct{}{}
				item.Values[k] = append(item.Values[k], v)
				c.bytes += int64(len(v) + quotes)
				n++
			}
		}
		if n == 0 {
			continue
		}
		if len(c.seen) > againValues || c.bytes > c.limit {
			return false
		}
		if len(c.batches) == 0 {
			c.batches = append(c.batches, c.batch(b))
		}
		last := c.batches[len(c.batches)-1]
		last.Items = append(last.Items, item)
		last.Stamp.LastCommit = b.Stamp.LastCommit
	}
	return true
}

func (c *collection) batch(first *invalidation.Batch) *invalidation.Batch {
	return &invalidation.Batch{Origin: invalidation.FromGap, Stamp: cdc.Stamp{Position: c.at, FirstCommit: first.Stamp.FirstCommit, LastCommit: first.Stamp.LastCommit}}
}

// quotes is what a value takes in a message besides its text.
const quotes = 3
