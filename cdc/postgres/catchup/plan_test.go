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

// decoder is how the server moves restart_lsn: to its records of which transactions run. While it decodes, a record before
// confirmed_flush_lsn counts at once, and the first one after that counts at the next advance.
type decoder struct {
	slot Slot
	// cadence is the distance of two records; open reports that a transaction is open all the time, so no record counts.
	cadence cdc.LSN
	open    bool
	read    uint64
}

func (d *decoder) decode(upTo cdc.LSN) {
	d.read += distance(d.slot.Restart, upTo)
	if !d.open {
		d.slot.Restart = max(d.slot.Restart, d.slot.Confirmed/d.cadence*d.cadence)
	}
}

func (d *decoder) advance(to cdc.LSN) {
	d.decode(to)
	if first := (d.slot.Confirmed/d.cadence + 1) * d.cadence; first <= to && !d.open {
		d.slot.Restart = first
	}
	d.slot.Confirmed = to
}

// TestLargeBacklog: of a large backlog the server reads at most five times its size, whether through SQL or for the stream; at
// most four times where it logs which transactions run once for each chunk; and at most three times where a transaction is
// open all the time, or the records are so rare that the stream takes over. Where the log has few rows to send, it is at most
// 3.25 times for a backlog of more than 2400 MiB, and four times for a smaller one.
func TestLargeBacklog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := cdc.LSN(rapid.Uint64Range(700, 20_000).Draw(t, "MiB")) * mib
		d := decoder{
			slot: Slot{Flushed: size}, cadence: cdc.LSN(rapid.Uint64Range(1, 1200).Draw(t, "MiB between two records")) * mib,
			open: rapid.IntRange(0, 3).Draw(t, "open") == 0,
		}
		sparse := rapid.Bool().Draw(t, "the log has few rows")
		rows := func(log cdc.LSN) uint64 {
			if sparse {
				return 0
			}
			return uint64(log)
		}
		p := NewPlan(Usual, 0)
		step := p.Next(d.slot)
		for ; step.Do == Read; step = p.Next(d.slot) {
			d.decode(step.UpTo)
			at, ok := p.Copied(d.slot, 0)
			require.True(t, ok)
			p.Arrived(rows(at-d.slot.Confirmed), time.Second/4, d.slot)
			d.advance(at)
			p.Advanced(at)
		}
		c := p.Counts()
		require.Equal(t, d.read, c.Read)
		total := d.read + distance(d.slot.Restart, size) // the stream begins at restart_lsn
		switch {
		case sparse && !d.open:
			if size >= 2400*mib {
				require.LessOrEqual(t, 4*total, 13*uint64(size))
			}
			require.LessOrEqual(t, total, 4*uint64(size))
		case d.open:
			require.Equal(t, Rereading, step.Why)
			require.LessOrEqual(t, c.Drained, uint64(320*mib))
			require.LessOrEqual(t, total, 3*uint64(size))
		case d.cadence <= cdc.LSN(Usual.Largest):
			require.Equal(t, CaughtUp, step.Why)
			require.LessOrEqual(t, total, 4*uint64(size))
		case d.cadence > 3*cdc.LSN(Usual.Largest):
			require.LessOrEqual(t, total, 3*uint64(size))
		default:
			require.LessOrEqual(t, total, 5*uint64(size))
		}
	})
}

// TestSparseChunk: a chunk is larger than usual only if restart_lsn follows, and as large as the server decodes in seconds and
// the memory for rows allows.
func TestSparseChunk(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart cdc.LSN
		rows    uint64
		took    time.Duration
		want    uint64 // MiB
	}{
		{"few rows", 450 * mib, 0, time.Second / 10, 512},
		{"restart_lsn stands still", 100 * mib, 0, time.Second / 10, 128},
		{"restart_lsn is near", 580 * mib, 0, time.Second / 10, 3 * (664 - 580)},
		{"a slow server", 450 * mib, 0, 8 * time.Second, (664 - 100) / 2},
		{"some rows", 450 * mib, 16 * mib, time.Second / 10, 512},
		{"more rows", 450 * mib, 32 * mib, time.Second / 10, 256},
		{"many rows", 450 * mib, 64 * mib, time.Second / 10, 128},
	} {
		s := Slot{Confirmed: 600 * mib, Restart: 100 * mib, Flushed: 10_000 * mib}
		p := NewPlan(Limits{First: 64 * mib, Largest: 128 * mib, Sparse: 512 * mib, Reread: 1000 * mib}, s.Confirmed)
		at := p.Next(s).UpTo
		s.Restart = c.restart
		_, ok := p.Copied(s, 0)
		require.True(t, ok)
		p.Arrived(c.rows, c.took, s)
		p.Advanced(at)
		s.Confirmed = at
		require.Equal(t, c.want, uint64(p.Next(s).UpTo-at)/mib, c.name)
	}
}

// TestLargeTransaction: a chunk that brings nothing while the server writes to its files is the inside of a
// transaction that the stream brings while it runs. The log of other databases is not, nor are many small transactions that
// the server writes to files because of its settings.
func TestLargeTransaction(t *testing.T) {
	for _, c := range []struct {
		name           string
		spilled, txns  int64
		last, restarts cdc.LSN
		large          bool
	}{
		{"one large transaction", 60 * mib, 1, 0, 0, true},
		{"the same, continued from the chunk before", 60 * mib, 0, 0, 0, true},
		{"two of them", 120 * mib, 2, 0, 0, true},
		{"another database", 0, 0, 0, 0, false},
		{"small transactions of tables that are not published", 60 * mib, 1000, 0, 0, false},
		{"a large one before a commit", 60 * mib, 1, 120 * mib, 0, false},
		{"a large one of another table, which has ended", 60 * mib, 1, 0, 50 * mib, false},
	} {
		s := Slot{Confirmed: 100 * mib, Restart: 100 * mib, Flushed: 1000 * mib}
		p := NewPlan(Usual, s.Confirmed)
		p.Next(s)
		s.Spilled += c.spilled
		s.SpilledTxns += c.txns
		s.Restart += c.restarts
		at, _ := p.Copied(s, c.last)
		p.Advanced(at)
		s.Confirmed = at
		if c.large {
			require.Equal(t, Step{Do: Stream, Why: LargeTransaction}, p.Next(s), c.name)
		} else {
			require.Equal(t, Read, p.Next(s).Do, c.name)
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
	s, err := ParseSlot([]string{"0/300", "0/200", "0/100", "7", "2", "", ""})
	require.NoError(t, err)
	require.Equal(t, Slot{Confirmed: 0x200, Restart: 0x100, Flushed: 0x300, Spilled: 7, SpilledTxns: 2}, s)
	s, err = ParseSlot([]string{"0/300", "0/200", "0/100", "7", "2", "0/280", "heir"})
	require.NoError(t, err)
	require.Equal(t, "heir", s.Lacking)
	require.Equal(t, cdc.LSN(0x280), s.Flushed, "what the standbys lack is not read")
	for i, bad := range []string{"", "", "", "x", "x", "x"} {
		row := []string{"0/300", "0/200", "0/100", "7", "2", "", ""}
		row[i] = bad
		_, err := ParseSlot(row)
		require.Error(t, err, "column %d", i)
	}
	_, err = ParseSlot(nil)
	require.Error(t, err)
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
		{"the server is slow, and decoding takes most of the rest", 200 * mib, 0, 300 * time.Millisecond, 0, true},
		{"the handler is slow", 200 * mib, 0, 200 * time.Millisecond, 0, false},
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
