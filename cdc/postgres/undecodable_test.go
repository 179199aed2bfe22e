package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func failed(code string, commit cdc.LSN) error {
	return fmt.Errorf("read: %w", &streamError{err: &pgconn.PgError{Code: code}, commit: commit})
}

func TestWhichErrorsOfTheServerAreOfATransaction(t *testing.T) {
	for code, want := range map[string]struct{ sending, elsewhere int }{
		"XX000": {patience, patience}, // invalid memory alloc request size, cache lookup failed
		"XX001": {patience, patience},
		"54000": {patience, patience}, // a text larger than a string can be
		"22012": {patience, patience}, // a row filter divides by zero
		"22021": {patience, patience},
		"22P03": {patience, patience},
		"42883": {patience, patience}, // a function is missing
		"53200": {longPatience, 0},
		"58P01": {longPatience, 0}, // a library is missing
		"42501": {}, "42704": {}, "53100": {}, "53300": {}, "55000": {}, "55006": {}, "57P01": {}, "57P02": {}, "57014": {}, "58030": {}, "08006": {}, "28000": {}, "3D000": {},
	} {
		require.Equal(t, want.sending, patienceWith(failed(code, 700)), code)
		require.Equal(t, want.elsewhere, patienceWith(failed(code, 0)), code)
		require.Equal(t, want.elsewhere, patienceWith(&pgconn.PgError{Code: code}), code)
	}
	require.Zero(t, patienceWith(errors.New("the server closed the replication connection")))
	require.Zero(t, patienceWith(nil))
}

func TestFailuresAtOneTransaction(t *testing.T) {
	from := func(start, end cdc.LSN) cdc.Session { return cdc.Session{Start: cdc.Position{LSN: start}, End: end} }
	var f failures
	require.Zero(t, f.failed(failed("XX000", 700), from(100, 900)))
	require.Zero(t, f.failed(failed("XX000", 700), from(300, 950)), "what was read before may be confirmed meanwhile")
	require.Zero(t, f.failed(errors.New("connection refused"), from(300, 950)))
	require.Zero(t, f.failed(failed("57P01", 0), from(300, 950)))
	require.Equal(t, skip{due: true, to: 701}, f.failed(failed("XX000", 700), from(300, 1000)))

	f.skipped(1000)
	require.Zero(t, f.failed(failed("XX000", 800), from(701, 1100)))
	require.Zero(t, f.failed(failed("XX000", 800), from(701, 1100)))
	require.Equal(t, skip{due: true}, f.failed(failed("XX000", 800), from(701, 1100)), "a second one in the same log")
	f.skipped(1100)
	for range patience - 1 {
		require.Zero(t, f.failed(failed("XX000", 1300), from(1200, 1400)))
	}
	require.Equal(t, skip{due: true, to: 1301}, f.failed(failed("XX000", 1300), from(1200, 1400)))

	f = failures{}
	for range patience - 1 {
		require.Zero(t, f.failed(failed("XX000", 0), from(100, 900)))
	}
	require.Equal(t, skip{due: true}, f.failed(failed("XX000", 0), from(100, 900)), "an unknown transaction")

	f = failures{}
	for range patience - 1 {
		require.Zero(t, f.failed(failed("XX000", 700), from(100, 900)))
	}
	require.Zero(t, f.failed(failed("XX000", 800), from(100, 900)), "another transaction")
	f = failures{}
	for range longPatience - 1 {
		require.Zero(t, f.failed(failed("53200", 700), from(100, 900)))
	}
	require.True(t, f.failed(failed("53200", 700), from(100, 900)).due)
}

func TestRequestsForOneAdvanceOfTheSlot(t *testing.T) {
	l := newLeaps()
	asked := l.ask(cdc.GapUndecodable, 701)
	past, pending := l.wants()
	require.True(t, pending)
	require.Equal(t, cdc.LSN(701), past)
	require.Same(t, asked, l.ask(cdc.GapRetained, 0))
	past, _ = l.wants()
	require.Zero(t, past, "the end of the log serves both")
	l.ask(cdc.GapUndecodable, 801)
	past, _ = l.wants()
	require.Zero(t, past)
	l.ask(cdc.GapSkipped, 0)
	require.Equal(t, cdc.GapSkipped, l.carriedOut(100, 900))
	_, pending = l.wants()
	require.False(t, pending)
}

// advanced are the sessions that began after an advance of the slot.
func (h *sinkhole) advanced() (out []cdc.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.starts {
		if s.Leapt != "" {
			out = append(out, s)
		}
	}
	return out
}

// TestTransactionsThatTheServerCannotDecode: the output function of a type fails for some values. One
// such transaction is skipped, and nothing else; of several, what is in the log. Where a gap must wait
// for an operator, nothing is skipped before walpurge skip.
func TestTransactionsThatTheServerCannotDecode(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.bridge = true
	for _, sql := range []string{
		"CREATE TYPE fragile",
		"CREATE FUNCTION fragile_in(cstring) RETURNS fragile IMMUTABLE STRICT LANGUAGE internal AS 'oidin'",
		"CREATE FUNCTION fragile_out(fragile) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'enum_out'",
		"CREATE TYPE fragile (INPUT = fragile_in, OUTPUT = fragile_out, LIKE = oid)",
		"ALTER TABLE items ADD value fragile",
	} {
		s.exec(sql)
	}
	r := s.run(&sinkhole{}, Streaming)
	s.exec("BEGIN")
	s.exec("INSERT INTO items VALUES (0, '')")
	s.exec("INSERT INTO items VALUES (100, '', '1')")
	s.exec("COMMIT")
	s.exec("INSERT INTO items VALUES (1, '')")
	eventually(t, 60*time.Second, func() bool { return r.has(2) }, "the change behind it arrives")
	require.Len(t, r.advanced(), 1)
	first := r.advanced()[0]
	require.Equal(t, cdc.GapUndecodable, first.Leapt)
	r.mu.Lock()
	require.Less(t, first.Start.LSN, r.commits[len(r.commits)-1].Commit)
	require.Zero(t, r.ids["100"])
	r.mu.Unlock()
	require.Contains(t, r.log.String(), passedOver.On)
	require.Contains(t, r.log.String(), "invalid internal value for enum")

	// Several transactions, and one that follows them: the first is skipped, then all.
	s.exec("INSERT INTO items VALUES (101, '', '1')")
	s.exec("INSERT INTO items VALUES (102, '', '1')")
	s.exec("INSERT INTO items VALUES (103, '')")
	s.exec("INSERT INTO items VALUES (104, '', '1')")
	eventually(t, 60*time.Second, func() bool { return len(r.advanced()) == 3 }, "the slot is advanced twice")
	s.exec("INSERT INTO items VALUES (2, '')")
	eventually(t, 60*time.Second, func() bool { return r.has(3) }, "the change behind them arrives")
	require.Len(t, r.advanced(), 3)
	r.end(t)

	s.bridge = false
	r = s.run(&sinkhole{}, Streaming)
	s.exec("INSERT INTO items VALUES (105, '', '1')")
	eventually(t, 60*time.Second, func() bool { return strings.Contains(r.State().Err, "walpurge skip --to current") }, "the status says what to do")
	require.Contains(t, r.State().Err, "postgres.on_gap is stop")
	require.Empty(t, r.advanced())
	_, _, err := r.Skip(t.Context())
	require.NoError(t, err)
	s.exec("INSERT INTO items VALUES (3, '')")
	eventually(t, 60*time.Second, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.ids["3"] > 0 }, "reading goes on")
	require.Equal(t, cdc.GapSkipped, r.advanced()[0].Leapt)
}
