package stream

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// inspect finds out whether messages have been lost from the stream of changes: at its
// head, where the trimmer records how far it goes, or in the middle, where walpurge
// deletes nothing. The lane's floor does not tell which of them it had purged: the server
// moves it along with the head, and takes a deletion for an acknowledgement of all before.
// So a loss that is not recorded as answered leads to a flush. known tells a lane
// that was there before from a new one, which begins with the stream as it is: it records
// older losses as answered.
func (c *Consumer) inspect(ctx context.Context, known bool) error {
	info, err := c.from.Info(ctx)
	if err != nil {
		return err
	}
	if first := info.State.FirstSeq; first > 1 {
		trimmed, err := c.s.readNote(ctx, trimmedSubject(c.s.cfg.Pipeline))
		if err != nil {
			return err
		}
		accepted, err := c.s.readNote(ctx, acceptedSubject(c.s.cfg.Pipeline, "head", c.sink))
		if err != nil {
			return err
		}
		if legitimate := max(trimmed, accepted); first > legitimate {
			if err := c.found(ctx, known, acceptance{head: first}, legitimate); err != nil {
				return err
			}
		}
	}
	if info.State.NumDeleted == 0 {
		return nil
	}
	if info, err = c.from.Info(ctx, jetstream.WithDeletedDetails(true)); err != nil {
		return fmt.Errorf("read the stream's holes: %w", err)
	}
	accepted, err := c.s.readNote(ctx, acceptedSubject(c.s.cfg.Pipeline, "hole", c.sink))
	if err != nil || len(info.State.Deleted) == 0 {
		return err
	}
	if last := slices.Max(info.State.Deleted); last > accepted {
		return c.found(ctx, known, acceptance{hole: last}, slices.Min(info.State.Deleted))
	}
	return nil
}

// found deals with a loss that begins at from.
func (c *Consumer) found(ctx context.Context, known bool, a acceptance, from uint64) error {
	if !known {
		return c.s.noteAcceptance(ctx, c.sink, a)
	}
	if a.head > 0 {
		c.requireFlush(invalidation.FlushHead, from, a.head)
		c.answer.head = a.head
		return nil
	}
	c.requireFlush(invalidation.FlushHole, from, a.hole)
	c.answer.hole = a.hole
	return nil
}

// count looks for a hole between two claims of one epoch: their counters rise
// by one. A claim that comes once more has a counter seen before.
func (c *Consumer) count(claim cdc.Claim, seq uint64) {
	last := c.counted
	if claim.Own != last.Own {
		if claim.Own {
			c.counted, c.countedSeq = claim, seq // earlier ones may say anything
		}
		return
	}
	if claim.Epoch < last.Epoch || claim.Epoch == last.Epoch && claim.Counter <= last.Counter {
		return
	}
	if claim.Epoch == last.Epoch && claim.Counter > last.Counter+1 {
		c.requireFlush(invalidation.FlushHole, c.countedSeq+1, seq-1)
	}
	c.counted, c.countedSeq = claim, seq
}

func (c *Consumer) requireFlush(reason string, from, to uint64) {
	c.flushReason = reason
	c.log.At(lost, "reason", reason).Observe("from_seq", from, "to_seq", to, "times", condition.Sum(1))
}

// attachFlush makes the flush that is due a part of the lane's next message, so
// that nothing behind the loss counts as purged before the sink was flushed.
func (c *Consumer) attachFlush(m *invalidation.Message, payload []byte) []byte {
	if c.flushReason == "" {
		return payload
	}
	if m.Batch == nil {
		m.Batch = &invalidation.Batch{Sink: c.sink, Origin: invalidation.FromGap}
		if m.Claim != nil {
			m.Batch.Stamp = cdc.Stamp{Position: m.Claim.Position, FirstCommit: m.Claim.CommitTime, LastCommit: m.Claim.CommitTime}
		}
	}
	m.Batch.Flush, m.Batch.Reason = true, c.flushReason
	c.answer.after = m.Seq
	c.mu.Lock()
	c.accept, c.answer = c.answer, acceptance{}
	c.mu.Unlock()
	c.flushReason = ""
	told, err := invalidation.Encode(c.s.cfg.Pipeline, m.Batch)
	if err != nil {
		c.log.At(unencoded).Observe("err", err)
		return payload
	}
	return told
}
