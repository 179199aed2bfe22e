package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// filled returns a stream with a claim and then n batches for cache, every
// second one followed by one for edge.
func filled(t *testing.T, n int) (*Stream, *Publisher) {
	t.Helper()
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	for i := range n {
		require.NoError(t, p.Publish(t.Context(), keyed("cache", fmt.Sprint(i), 0)))
		if i%2 == 1 {
			require.NoError(t, p.Publish(t.Context(), keyed("edge", fmt.Sprint(i), 0)))
		}
	}
	require.NoError(t, p.Flushed(t.Context()))
	return s, p
}

func TestALaneReadsItsMessagesInOrder(t *testing.T) {
	s, p := filled(t, 500)
	c := consumer(t, s, "cache")
	require.Equal(t, "claim 1.1 0/64", short(next(t, c)))
	before := uint64(1)
	for i := range 500 {
		m := next(t, c)
		require.Equal(t, fmt.Sprint(i), short(m))
		require.Equal(t, "cache", m.Batch.Sink)
		require.Greater(t, m.Seq, before)
		before = m.Seq
	}
	require.NoError(t, p.Claim(t.Context(), at(101), noon))
	require.Equal(t, "claim 1.2 0/65", short(next(t, c)))
}

// TestASlowLaneIsSentNoMoreThanItHolds reads only when everything asked for has come.
func TestASlowLaneIsSentNoMoreThanItHolds(t *testing.T) {
	s, _ := filled(t, 500)
	var dropped atomic.Int32
	s.js.Conn().SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		dropped.Add(1)
		t.Log(err)
	})
	c := consumer(t, s, "cache")
	for i := range 501 {
		eventually(t, "the server has sent all it was asked for", func() bool {
			info, err := c.cons.Info(t.Context())
			return err == nil && (info.NumWaiting == 0 || info.NumPending == 0)
		})
		if m := next(t, c); i > 0 {
			require.Equal(t, fmt.Sprint(i-1), short(m), "each comes once")
		}
	}
	require.Zero(t, dropped.Load())
}

func TestARestartRepeatsWhatWasNotAcknowledged(t *testing.T) {
	s, _ := filled(t, 10)
	c := consumer(t, s, "cache")
	var messages []invalidation.Message
	for range 11 {
		messages = append(messages, next(t, c))
	}
	n, err := c.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(11), n)
	require.NoError(t, c.Ack(messages[4].Seq))
	require.Equal(t, messages[4].Seq, c.Floor())
	eventually(t, "the server knows", func() bool {
		n, err := c.Backlog(t.Context())
		return err == nil && n == 6
	})
	c.drain(t.Context())

	again := consumer(t, s, "cache")
	require.Equal(t, messages[4].Seq, again.Floor())
	for i := 5; i < 11; i++ {
		m := next(t, again)
		require.Equal(t, messages[i].Seq, m.Seq)
		require.Equal(t, short(messages[i]), short(m))
	}
	require.NoError(t, again.Ack(messages[10].Seq))
	require.NoError(t, again.Ack(messages[10].Seq), "twice is as well as once")
	require.NoError(t, again.Ack(messages[2].Seq))
	require.Equal(t, messages[10].Seq, again.Floor(), "the floor never goes back")
}

// steal takes the next delivery of the lane's consumer away, as a broken
// connection would.
func steal(t *testing.T, c *Consumer) jetstream.Msg {
	t.Helper()
	m, err := c.cons.Next(jetstream.FetchMaxWait(10 * time.Second))
	require.NoError(t, err)
	return m
}

func TestASkippedDeliveryIsNoticed(t *testing.T) {
	for _, first := range []int{0, 3} { // before any was seen, and later
		s, p := filled(t, 0)
		c := consumer(t, s, "cache")
		c.drain(t.Context())
		for i := range 6 {
			require.NoError(t, p.Publish(t.Context(), keyed("cache", fmt.Sprint(i), 0)))
		}
		require.NoError(t, p.Flushed(t.Context()))
		if first == 0 {
			_, err := s.js.ResetConsumer(t.Context(), streamName("shop"), "cache")
			require.NoError(t, err)
			steal(t, c)
			iter, err := c.cons.Messages()
			require.NoError(t, err)
			c.iter, c.next, c.held = iter, 1, nil
		} else {
			require.NoError(t, c.reset(t.Context(), true))
			for range first {
				next(t, c)
			}
			c.next-- // as if one delivery more had been made than came in
		}
		seen := map[string]bool{}
		for len(seen) < 7 {
			seen[short(next(t, c))] = true
		}
		require.Contains(t, seen, "claim 1.1 0/64", "the stolen one came again")
	}
}

func TestAnUnreadableMessageIsAFlush(t *testing.T) {
	s, _ := filled(t, 0)
	c := consumer(t, s, "cache")
	next(t, c)
	heard, err := s.nc.SubscribeSync(PurgedSubject("shop", "cache"))
	require.NoError(t, err)
	began := time.Now()
	for _, subject := range []string{purgeSubject("shop", "cache"), progressSubject("shop")} {
		_, err := s.js.Publish(t.Context(), subject, []byte(`{"v":9}`))
		require.NoError(t, err)
		m := next(t, c)
		require.Equal(t, "flush unreadable_message", short(m))
		require.Equal(t, "cache", m.Batch.Sink)
		require.Equal(t, invalidation.FromGap, m.Batch.Origin)
		require.WithinDuration(t, began, m.Batch.Stamp.FirstCommit, time.Minute, "or the lag would be that of centuries")
		require.NoError(t, c.Announce(m.Seq))
		told, err := heard.NextMsg(10 * time.Second)
		require.NoError(t, err)
		b, err := invalidation.Decode(told.Data)
		require.NoError(t, err)
		require.True(t, b.Flush, "listeners are told of the flush, not of what cannot be read")
		require.NoError(t, c.Ack(m.Seq))
	}
}

func TestAnnounce(t *testing.T) {
	s, _ := filled(t, 1)
	sub, err := s.nc.SubscribeSync(PurgedSubject("shop", "*"))
	require.NoError(t, err)
	require.NoError(t, s.nc.Flush())
	c := consumer(t, s, "cache")
	next(t, c)
	m := next(t, c)
	require.NoError(t, c.Announce(m.Seq))
	got, err := sub.NextMsg(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "walpurge.shop.purged.cache", got.Subject)
	b, err := invalidation.Decode(got.Data)
	require.NoError(t, err)
	require.Equal(t, "0", b.Items[0].Values[invalidation.Key][0])
	require.NoError(t, c.Ack(m.Seq))
	require.NoError(t, c.Announce(m.Seq), "given up already: nothing to tell")
	require.NoError(t, s.nc.Flush())
	n, _, err := sub.Pending()
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestNextEndsWithItsContext(t *testing.T) {
	s, _ := filled(t, 0)
	c := consumer(t, s, "cache")
	next(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // short: expires on purpose
	defer cancel()
	_, err := c.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestPastWaitsForTheLane(t *testing.T) {
	s, _ := filled(t, 4)
	c := consumer(t, s, "cache")
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // short: expires on purpose
	defer cancel()
	require.ErrorIs(t, c.Past(short, 5), context.DeadlineExceeded)
	done := make(chan error, 1)
	go func() { done <- c.Past(t.Context(), 7) }()
	var last invalidation.Message
	for range 5 {
		last = next(t, c)
	}
	require.NoError(t, c.Ack(last.Seq))
	require.Less(t, last.Seq, uint64(7), "the seventh is another lane's")
	require.NoError(t, <-done, "nothing is left for this one")
}

func TestParkedIsStoredAndCounted(t *testing.T) {
	synced := 0
	s := open(t, Config{Sync: func() error { synced++; return nil }})
	require.Equal(t, 1, synced, "what it finds is durable before anybody acts on it")
	counts, err := s.Parked(t.Context())
	require.NoError(t, err)
	require.Empty(t, counts)
	require.NoError(t, s.Park(t.Context(), keyed("cache", "a\xff", 0), errors.New("too long")))
	require.Equal(t, 2, synced, "durable before it returns")
	require.NoError(t, s.Park(t.Context(), keyed("cache", "b", 0), errors.New("too long")))
	require.NoError(t, s.Park(t.Context(), keyed("edge", "b", 0), errors.New("too long")))
	counts, err = s.Parked(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{"cache": 2, "edge": 1}, counts)

	st, err := s.js.Stream(t.Context(), parkedName("shop"))
	require.NoError(t, err)
	m, err := st.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	var p parked
	require.NoError(t, json.Unmarshal(m.Data, &p))
	require.Equal(t, "too long", p.Error)
	b, err := invalidation.Decode(p.Batch)
	require.NoError(t, err)
	require.Equal(t, "a\xff", b.Items[0].Values[invalidation.Key][0])

	broken := errors.New("input/output error")
	s.cfg.Sync = func() error { return broken }
	require.ErrorIs(t, s.Park(t.Context(), keyed("cache", "c", 0), errors.New("too long")), broken)
}
