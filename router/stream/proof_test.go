package stream

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// forge publishes a message as someone does who has the daemon's NATS credentials.
func forge(t *testing.T, s *Stream, subject, text string) uint64 {
	t.Helper()
	ack, err := s.js.Publish(t.Context(), subject, []byte(text))
	require.NoError(t, err)
	return ack.Sequence
}

// forgedClaims are claims that say too much, or no claims at all.
func forgedClaims() map[string]string {
	claim := func(epoch, counter any, lsn, system string, timeline any) string {
		return fmt.Sprintf(`{"v":1,"epoch":%v,"counter":%v,"claim":%q,"system_id":%q,"timeline":%v,"committed_at":"2026-11-20T12:00:00Z"}`, epoch, counter, lsn, system, timeline)
	}
	return map[string]string{
		"far in the future":  claim(4, 2, "FFFFFF/0", "s", 1),
		"the next one":       claim(4, 2, "0/65", "s", 1),
		"zero":               claim(4, 2, "0/0", "s", 1),
		"negative":           claim(4, 2, "-1", "s", 1),
		"negative epoch":     claim(-1, 2, "0/65", "s", 1),
		"an earlier epoch":   claim(1, 1, "FFFFFF/0", "s", 1),
		"epoch 0":            claim(0, 0, "FFFFFF/0", "s", 1),
		"the largest epoch":  claim(uint64(1<<64-1), 1, "FFFFFF/0", "s", 1),
		"another system":     claim(4, 2, "FFFFFF/0", "other", 1),
		"no system":          claim(4, 2, "FFFFFF/0", "", 0),
		"a later timeline":   claim(4, 2, "FFFFFF/0", "s", 4294967295),
		"a counter skipped":  claim(4, 1<<40, "0/65", "s", 1),
		"of another version": `{"v":2}`,
		"not JSON":           "\x00\xff",
		"empty":              "",
		"a proof":            `{"v":1,"epoch":4,"counter":2,"claim":"FFFFFF/0","system_id":"s","timeline":1,"proof":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
	}
}

// TestForgedClaims: a claim that this process has not published moves nothing, the lane flushes, and the
// publisher goes on behind it.
func TestForgedClaims(t *testing.T) {
	var gaps atomic.Int64
	s := open(t, Config{Broken: func(g cdc.Gap) {
		require.Equal(t, cdc.GapUnprovenClaim, g.Reason)
		gaps.Add(1)
	}})
	p, board := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 4, Position: at(100)}, 0))
	cache, edge := consumer(t, s, "cache"), consumer(t, s, "edge")
	require.Equal(t, "claim 4.1 0/64", short(next(t, cache)))
	require.Equal(t, "claim 4.1 0/64", short(next(t, edge)))
	lsn := cdc.LSN(100)
	for name, text := range forgedClaims() {
		forge(t, s, progressSubject("shop"), text)
		for _, c := range []*Consumer{cache, edge} {
			m := next(t, c)
			require.Nil(t, m.Claim, name)
			require.NotNil(t, m.Batch, name)
			require.True(t, m.Batch.Flush, name)
			require.Contains(t, []string{invalidation.FlushUnreadable, string(cdc.GapUnprovenClaim)}, m.Batch.Reason, name)
			require.Zero(t, m.Batch.Stamp.Position, name)
			require.NoError(t, c.Ack(m.Seq))
		}
		require.Equal(t, at(lsn), board.Get(published), name)
		_, err := s.Flush(t.Context(), "cache", invalidation.FlushHole)
		require.NoError(t, err)
		m := next(t, cache)
		require.Zero(t, m.Batch.Stamp.Position, "the forged claim is not the place of a flush, %s", name)

		lsn++
		require.NoError(t, p.Claim(t.Context(), at(lsn), noon))
		require.NoError(t, p.Flushed(t.Context()))
		require.Equal(t, at(lsn), board.Get(published), name)
		for _, c := range []*Consumer{cache, edge} {
			m := next(t, c)
			require.NotNil(t, m.Claim, name)
			require.Equal(t, at(lsn), m.Claim.Position, name)
			require.NoError(t, c.Ack(m.Seq))
		}
	}
	require.EqualValues(t, 10, gaps.Load(), "each that can be read as a claim is counted once, whatever the number of lanes")
}

// A flood of forged claims is answered by one flush at a time.
func TestManyForgedClaimsAreOneFlush(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 4, Position: at(100)}, 0))
	c := consumer(t, s, "cache")
	next(t, c)
	for range 50 {
		forge(t, s, progressSubject("shop"), forgedClaims()["far in the future"])
	}
	flushes, last := 0, uint64(0)
	for range 50 {
		m := next(t, c)
		require.Nil(t, m.Claim)
		if m.Batch != nil {
			flushes++
		}
		last = m.Seq
	}
	require.Equal(t, 1, flushes)
	require.NoError(t, c.Ack(last))
	forge(t, s, progressSubject("shop"), forgedClaims()["far in the future"])
	require.Equal(t, "flush unproven_claim", short(next(t, c)))
}

// TestClaimsOfEarlierProcesses are believed as far as the slot had confirmed them when this process began; the
// rest comes again from the slot.
func TestClaimsOfEarlierProcesses(t *testing.T) {
	s := open(t, Config{})
	for _, c := range []cdc.Claim{
		{Epoch: 1, Counter: 1, Position: at(50), CommitTime: noon}, {Epoch: 1, Counter: 2, Position: at(60), CommitTime: noon},
		{Epoch: 1, Counter: 3, Position: at(70), CommitTime: noon}, {Epoch: 9, Counter: 1, Position: at(60), CommitTime: noon},
		{Epoch: 1, Counter: 4, Position: cdc.Position{SystemID: "other", Timeline: 1, LSN: 60}, CommitTime: noon},
	} {
		data, err := encodeClaim(c, proofKey("an earlier process"))
		require.NoError(t, err)
		forge(t, s, progressSubject("shop"), string(data))
	}
	before := consumer(t, s, "cache")
	for range 5 {
		m := next(t, before)
		require.Nil(t, m.Claim, "where the slot is is not known yet")
		require.Nil(t, m.Batch)
	}
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 5, Position: at(60)}, 5))
	c := consumer(t, s, "edge")
	require.Equal(t, "claim 1.1 0/32", short(next(t, c)))
	require.Equal(t, "claim 1.2 0/3C", short(next(t, c)))
	for range 3 {
		m := next(t, c)
		require.Nil(t, m.Claim)
		require.Nil(t, m.Batch)
	}
	require.Equal(t, "claim 5.1 0/3C", short(next(t, c)))
}

// TestForgedNotesAndMessages: what cannot be read stops nothing.
func TestForgedNotesAndMessages(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	for _, subject := range []string{
		trimmedSubject("shop"), acceptedSubject("shop", "head", "cache"), acceptedSubject("shop", "hole", "cache"),
		acceptedSubject("shop", invalidation.FlushOverflow, "cache"), acceptedSubject("shop", invalidation.FlushReplica, "7265"), doneSubject("shop", "cache"), storedSubject("shop", "cache"),
	} {
		forge(t, s, subject, "-1")
		forge(t, s, subject, "\x00")
	}
	forge(t, s, parkedSubject("shop", "cache"), "no JSON")
	var listed []ParkedBatch
	require.NoError(t, s.ListParked(t.Context(), "*", func(b ParkedBatch) bool { listed = append(listed, b); return true }))
	require.Len(t, listed, 1)
	require.Equal(t, "cache", listed[0].Batch.Sink)
	require.ErrorContains(t, s.RetryParked(t.Context(), listed[0].ID), "parked message")
	require.NoError(t, s.DropParked(t.Context(), listed[0].ID))

	forge(t, s, purgeSubject("shop", "cache"), `{"v":1,"pipeline":"shop","sink":"cache","origin":"gap","lsn":"0/1","xids":[],"first_committed_at":"2026-11-20T12:00:00Z","committed_at":"2026-11-20T12:00:00Z","items":[],"flush":true,"reason":"made up"}`)
	c := consumer(t, s, "cache")
	_, err := s.Overflowed(t.Context(), c, "")
	require.NoError(t, err)
	require.Equal(t, "claim 1.1 0/64", short(next(t, c)))
	require.Equal(t, "flush unreadable_message", short(next(t, c)), "a reason is a label of metrics")
	manual, err := s.ManualConsumer(t.Context(), "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(manual.Close)
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "k", 0)))
	require.Equal(t, "k", short(next(t, manual.Consumer)))
	away, err := s.ReplicaAway(t.Context(), "re")
	require.NoError(t, err)
	require.False(t, away)
	require.NoError(t, NewTrimmer(s, p, c.Floor, quiet).trim(t.Context()))
}

// FuzzClaims: whatever a message on the subject of claims says and wherever it lies, it is proven only if this process has
// published the same claim, or if the slot had confirmed all of it when this process began.
func FuzzClaims(f *testing.F) {
	key := proofKey("0123456789abcdef0123456789abcdef")
	const firstSeq, firstLSN, epoch = 100, 1000, 4
	var own []cdc.Claim
	for counter := range uint64(5) {
		claim := cdc.Claim{Epoch: epoch, Counter: counter, Position: at(firstLSN + cdc.LSN(counter)), CommitTime: noon, Database: 5}
		data, err := encodeClaim(claim, key)
		require.NoError(f, err)
		f.Add(data, uint64(firstSeq)+counter)
		own = append(own, claim)
	}
	for _, text := range forgedClaims() {
		f.Add([]byte(text), uint64(firstSeq+1))
		f.Add([]byte(text), uint64(1))
	}
	f.Add([]byte(`{"v":1,"epoch":3,"counter":2,"claim":"0/65","system_id":"s","timeline":1,"committed_at":"2026-11-20T12:00:00Z"}`), uint64(99))
	f.Fuzz(func(t *testing.T, data []byte, seq uint64) {
		s := &Stream{key: key}
		s.epoch.Store(epoch)
		claim, err := decodeClaim(data, key)
		if err != nil {
			return
		}
		require.Equal(t, claim.Own, s.judge(claim, seq) == proven, "before this process has begun only its own claims say anything")
		s.first.Store(&firstEpoch{epoch: epoch, seq: firstSeq, at: at(firstLSN)})
		if s.judge(claim, seq) != proven {
			return
		}
		published := slices.ContainsFunc(own, func(c cdc.Claim) bool {
			return c.Epoch == claim.Epoch && c.Counter == claim.Counter && c.Position == claim.Position && c.Database == claim.Database && c.CommitTime.Equal(claim.CommitTime)
		})
		confirmed := seq < firstSeq && claim.Epoch < epoch && claim.Position.SystemID == "s" && !at(firstLSN).Before(claim.Position)
		require.True(t, published || confirmed, "%s at %d", data, seq)
	})
}
