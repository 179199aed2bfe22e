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

// Overflow puts a flush behind everything that a lane has in the stream, and
// notes that it replaces all of that. It returns the flush's sequence once both
// are durable. A crash between the two leaves a flush and no note: the lane then
// purges its backlog and flushes besides.
func (s *Stream) Overflow(ctx context.Context, sink string) (uint64, error) {
	seq, err := s.Flush(ctx, sink, invalidation.FlushOverflow)
	if err != nil {
		return 0, err
	}
	if err := s.note(ctx, acceptedSubject(s.cfg.Pipeline, invalidation.FlushOverflow, sink), seq); err != nil {
		return 0, err
	}
	return seq, s.sync()
}

// Flush puts a flush behind everything that a lane has in the stream, and returns its
// sequence once it is durable.
func (s *Stream) Flush(ctx context.Context, sink, reason string) (uint64, error) {
	now := time.Now()
	b := &invalidation.Batch{Sink: sink, Origin: invalidation.FromGap, Flush: true, Reason: reason, Stamp: cdc.Stamp{FirstCommit: now, LastCommit: now}}
	claim, _, found, err := s.LastClaim(ctx)
	if err != nil {
		return 0, err
	}
	if found && claim.Own {
		b.Stamp.Position = claim.Position
	}
	data, err := invalidation.Encode(s.cfg.Pipeline, b)
	if err != nil {
		return 0, fmt.Errorf("encode a flush for %s: %w", sink, err)
	}
	ack, err := s.squeezeIn(ctx, s.stream, &nats.Msg{Subject: purgeSubject(s.cfg.Pipeline, sink), Data: data})
	if err != nil {
		return 0, fmt.Errorf("store a flush for %s: %w", sink, err)
	}
	return ack.Sequence, s.sync()
}

// squeezeIn stores a small message that must be stored even if the stream is full: one that
// makes room by being there, or a note. A stream that has no room for it is made a little
// larger, until it is opened again: the server drops nothing from one whose limit is lowered
// (DiscardNew).
func (s *Stream) squeezeIn(ctx context.Context, in jetstream.Stream, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := s.js.PublishMsg(ctx, m, opts...)
	for extra := int64(squeeze); isFull(err) && extra <= maxSqueeze; extra *= 2 {
		info, ierr := in.Info(ctx)
		if ierr != nil {
			return nil, ierr
		}
		larger, opened := info.Config, s.sizes[info.Config.Name]
		// One whose limit was lowered may still hold more than that.
		larger.MaxBytes = max(opened.limit, min(opened.held, int64(info.State.Bytes))) + extra
		if _, ierr := s.js.UpdateStream(ctx, larger); ierr != nil {
			return nil, ierr
		}
		ack, err = s.js.PublishMsg(ctx, m, opts...)
	}
	return ack, err
}

// What a stream may grow by, in bytes.
const (
	squeeze    = 4 << 10
	maxSqueeze = 256 << 10
)

func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed
}

// The stream is all but full past pressAt of its size, and a lane keeps it so if it
// has acknowledged less than half of that.
const pressAt = 0.85

// Pressing reports that the stream is all but full although its head is trimmed, and
// that a lane with this floor keeps it so; lowest is the lowest floor of all.
func (s *Stream) Pressing(ctx context.Context, floor, lowest uint64) (bool, error) {
	if floor > lowest {
		return false, nil
	}
	info, err := s.stream.Info(ctx)
	if err != nil {
		return false, err
	}
	state := info.State
	done := uint64(0)
	if floor >= state.FirstSeq {
		done = floor - state.FirstSeq + 1
	}
	return float64(state.Bytes) >= pressAt*float64(s.cfg.MaxBytes) && done < state.Msgs/2, nil
}

// Overflowed is the newest flush that replaces a backlog of the sink, under
// this name or a former one, and has not been acknowledged; 0 without one.
func (s *Stream) Overflowed(ctx context.Context, c *Consumer, formerly string) (uint64, error) {
	newest := uint64(0)
	for _, sink := range []string{c.sink, formerly} {
		if sink == "" {
			continue
		}
		seq, err := s.readNote(ctx, acceptedSubject(s.cfg.Pipeline, invalidation.FlushOverflow, sink))
		if err != nil {
			return 0, err
		}
		if seq <= c.Floor() {
			continue
		}
		// Of a stream that was made again the note says nothing.
		m, err := s.stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read the flush that replaces a backlog: %w", err)
		}
		if b, err := invalidation.Decode(m.Data); err == nil && m.Subject == purgeSubject(s.cfg.Pipeline, sink) && b.Flush && b.Reason == invalidation.FlushOverflow {
			newest = max(newest, seq)
		}
	}
	return newest, nil
}

// BacklogBytes is about what the lane has not acknowledged: messages, and the
// mean size of those that it has read lately, or of all in the stream.
func (c *Consumer) BacklogBytes(ctx context.Context) (int64, error) {
	n, err := c.Backlog(ctx)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	bytes, messages := c.sizes.bytes, c.sizes.messages
	c.mu.Unlock()
	if messages == 0 {
		u, err := c.s.Usage(ctx)
		if err != nil || u.Messages == 0 {
			return 0, err
		}
		bytes, messages = u.Bytes, int64(u.Messages)
	}
	return int64(float64(n) * float64(bytes) / float64(messages)), nil
}

// sizes sums up what a lane has read lately.
type sizes struct{ bytes, messages int64 }

// add counts a message; older ones count for less and less.
func (s *sizes) add(msg jetstream.Msg) {
	// What the server stores with a message: see fileStoreMsgSize in nats-server.
	const envelope = 30
	s.bytes += int64(len(msg.Data()) + len(msg.Subject()) + envelope)
	if s.messages++; s.messages >= 4096 {
		s.bytes, s.messages = s.bytes/2, s.messages/2
	}
}
