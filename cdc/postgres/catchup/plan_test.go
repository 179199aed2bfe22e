package catchup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

const mib = 1 << 20

func TestBegins(t *testing.T) {
	for _, c := range []struct {
		name string
		slot Slot
		want bool
	}{
		{"little to read", Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 164 * mib}, false},
		{"a backlog", Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 165 * mib}, true},
		{"a transaction has been open for long", Slot{Confirmed: 400 * mib, Restart: 100 * mib, Flushed: 900 * mib}, false},
		{"standbys do not have the log", Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 50 * mib}, false},
	} {
		require.Equal(t, c.want, Usual.Begins(c.slot), c.name)
	}
}

// TestPlan follows the chunks of a backlog of one GiB.
func TestPlan(t *testing.T) {
	s := Slot{Confirmed: 100 * mib, Restart: 99 * mib, Flushed: 1124 * mib}
	p := NewPlan(Usual, s.Confirmed)
	var sizes []uint64
	for step := p.Next(s); step.Do == Read; step = p.Next(s) {
		require.Greater(t, step.UpTo, s.Confirmed)
		require.LessOrEqual(t, step.UpTo, s.Flushed)
		at, ok := p.Copied(s, step.UpTo-5)
		require.True(t, ok)
		require.Equal(t, step.UpTo, at)
		sizes = append(sizes, uint64(at-s.Confirmed)/mib)
		p.Advanced(at)
		s.Confirmed, s.Restart = at, at-mib
	}
	require.Equal(t, []uint64{64, 128, 128, 128, 128, 128, 128, 192}, sizes)
	require.Equal(t, Step{Do: Stream, Why: CaughtUp}, p.Next(s))
	require.Equal(t, Counts{Read: 2 * (1024 + 8) * mib, Drained: 1024 * mib, Chunks: 8}, p.Counts())
}

// TestPosition: the last commit of a chunk may extend beyond its end, and a chunk without a commit proves its end.
func TestPosition(t *testing.T) {
	s := Slot{Confirmed: 100, Restart: 100, Flushed: 100 + 100*mib}
	for last, want := range map[cdc.LSN]cdc.LSN{0: 100 + 64*mib, 200: 100 + 64*mib, 120 + 64*mib: 120 + 64*mib} {
		p := NewPlan(Usual, 100)
		step := p.Next(s)
		require.Equal(t, cdc.LSN(100+64*mib), step.UpTo)
		at, ok := p.Copied(s, last)
		require.True(t, ok)
		require.Equal(t, want, at)
	}
}

// TestMoved: whatever another process does to the slot, before or during a chunk, ends the plan.
func TestMoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Slot{Confirmed: 1000 * mib, Restart: 1000 * mib, Flushed: 3000 * mib}
		p := NewPlan(Usual, s.Confirmed)
		for range rapid.IntRange(0, 4).Draw(t, "chunks") {
			step := p.Next(s)
			at, ok := p.Copied(s, 0)
			require.True(t, ok)
			require.Equal(t, step.UpTo, at)
			p.Advanced(at)
			s.Confirmed, s.Restart = at, at
		}
		moved := s
		moved.Confirmed = cdc.LSN(rapid.Uint64Range(1, 4000*mib).Filter(func(l uint64) bool { return cdc.LSN(l) != s.Confirmed }).Draw(t, "moved"))
		if rapid.Bool().Draw(t, "before the chunk") {
			require.Equal(t, Step{Do: Abandon, Why: Moved}, p.Next(moved))
			return
		}
		p.Next(s)
		_, ok := p.Copied(moved, 0)
		require.False(t, ok)
	})
}

// TestRereading: a writer that stays open holds restart_lsn. The plan ends before the server reads its log too often.
func TestRereading(t *testing.T) {
	s := Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 10_000 * mib}
	p := NewPlan(Usual, s.Confirmed)
	for step := p.Next(s); step.Do == Read; step = p.Next(s) {
		at, _ := p.Copied(s, step.UpTo)
		p.Advanced(at)
		s.Confirmed = at
	}
	require.Equal(t, Step{Do: Stream, Why: Rereading}, p.Next(s))
	c := p.Counts()
	require.LessOrEqual(t, c.Read, 5*c.Drained)
	require.Less(t, c.Drained, uint64(600*mib))
	s.Flushed = s.Confirmed + 20*mib
	require.Equal(t, Step{Do: Stream, Why: Rereading}, p.Next(s), "for a small rest even less is read again")
}

// TestLargeTransaction: a chunk that brings nothing while the server writes to its files is the inside of a
// transaction that the stream brings while it runs. The log of other databases is not.
func TestLargeTransaction(t *testing.T) {
	for _, large := range []bool{true, false} {
		s := Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 1000 * mib}
		p := NewPlan(Usual, s.Confirmed)
		p.Next(s)
		if large {
			s.Spilled += 60 * mib
		}
		at, _ := p.Copied(s, 0)
		p.Advanced(at)
		s.Confirmed = at
		if large {
			require.Equal(t, Step{Do: Stream, Why: LargeTransaction}, p.Next(s))
		} else {
			require.Equal(t, Read, p.Next(s).Do)
		}
	}
}

// TestCancelled: chunks that are not taken become smaller, and a plan that is cancelled again and again ends.
func TestCancelled(t *testing.T) {
	s := Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 1000 * mib}
	p := NewPlan(Usual, s.Confirmed)
	p.Next(s)
	p.Cancelled()
	require.Equal(t, cdc.LSN(116*mib), p.Next(s).UpTo)
	p.Cancelled()
	p.Cancelled()
	require.Equal(t, Step{Do: Stream, Why: Untaken}, p.Next(s))
}

func TestPatience(t *testing.T) {
	s := Slot{Confirmed: 1000 * mib, Restart: 1000 * mib, Flushed: 3000 * mib}
	p := NewPlan(Usual, s.Confirmed)
	p.Next(s)
	require.Equal(t, 6*time.Second, p.Patience())
	s.Restart -= 120 * mib
	p.Next(s)
	require.Equal(t, 15*time.Second, p.Patience())
}

// TestFit has the minor versions before and at which known faults of the server were removed.
func TestFit(t *testing.T) {
	for version, fit := range map[int]bool{
		130020: false, 140014: false, 140015: true, 150009: false, 150010: true, 160005: false, 160006: true, 170001: false, 170002: true, 180000: true, 190000: true,
	} {
		require.Equal(t, fit, Fit(version), version)
	}
}

func TestParseSlot(t *testing.T) {
	s, err := ParseSlot([]string{"0/300", "0/200", "0/100", "7", ""})
	require.NoError(t, err)
	require.Equal(t, Slot{Confirmed: 0x200, Restart: 0x100, Flushed: 0x300, Spilled: 7}, s)
	s, err = ParseSlot([]string{"0/300", "0/200", "0/100", "7", "0/280"})
	require.NoError(t, err)
	require.Equal(t, cdc.LSN(0x280), s.Flushed, "what the standbys lack is not read")
	for _, bad := range [][]string{nil, {"0/300", "0/200", "", "7", ""}, {"0/300", "0/200", "0/100", "x", ""}, {"0/300", "0/200", "0/100", "7", "x"}} {
		_, err := ParseSlot(bad)
		require.Error(t, err)
	}
}

// TestBehind: a stream that stays behind for long while the session waits for the server is replaced by SQL; one whose
// handler is slow, one that catches up by itself, and one whose log would be read again too often, are not.
func TestBehind(t *testing.T) {
	for _, c := range []struct {
		name      string
		left      uint64
		rereading uint64
		waited    time.Duration // of each second
		gap       int           // a second at which the stream is not behind
		want      bool
	}{
		{"the server is slow", 200 * mib, 0, 700 * time.Millisecond, 0, true},
		{"the handler is slow", 200 * mib, 0, 300 * time.Millisecond, 0, false},
		{"little is left", 100 * mib, 0, time.Second, 0, false},
		{"a transaction is open", 200 * mib, 200 * mib, time.Second, 0, false},
		{"it caught up meanwhile", 200 * mib, 0, time.Second, 5, false},
	} {
		b := Behind{Limits: Usual}
		due, now := false, time.Unix(0, 0)
		for second := range 12 {
			left := c.left
			if c.gap > 0 && second == c.gap {
				left = 0
			}
			due = b.Note(now.Add(time.Duration(second)*time.Second), left, c.rereading, c.waited) || due
		}
		require.Equal(t, c.want, due, c.name)
	}
}
