package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// A transaction that wrote to a table before the table was published, and commits afterwards, is
// decoded with the catalog of the moment of writing. Older minor versions then go on taking the table
// for one that is not published, for all transactions, until the walsender ends. PostgreSQL commit
// 4909b38af0 ("Fix data loss in logical replication", April 2025) distributes invalidations to the
// transactions that are in progress; it came with 14.18, 15.13, 16.9 and 17.5. It lets the memory for
// invalidations grow beyond its limit where many transactions change the catalog at once, until
// d87d07b7ad (June 2025), in 14.19, 15.14, 16.10 and 17.6.
var invalidationsDistributed = map[int]int{14: 18, 15: 13, 16: 9, 17: 5}

// staysUnpublished reports a version, as server_version_num, that can go on taking a table for one
// that is not published.
func staysUnpublished(version int) bool {
	since, some := invalidationsDistributed[version/10000]
	return version < oldest*10000 || some && version%10000 < since
}

// MinorNotes say, for `walpurge check`, which fixes of newer minor versions matter here.
func (c Config) MinorNotes(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return nil, err
	}
	return minorNotes(version), nil
}

func minorNotes(version int) (notes []string) {
	major, minor := version/10000, version%10000
	since, some := invalidationsDistributed[major]
	switch {
	case some && minor < since:
		notes = append(notes, fmt.Sprintf("PostgreSQL %d.%d can go on not sending a table that was published while a transaction wrote to it: after such a table the daemon reconnects once, "+
			"and purges what rules derive from it again; upgrade to %d.%d or newer", major, minor, major, since+1))
	case some && minor == since:
		notes = append(notes, fmt.Sprintf("PostgreSQL %d.%d can run out of memory while it decodes many transactions that change the catalog at once, which stops the stream; "+
			"upgrade to %d.%d or newer", major, minor, major, since+1))
	}
	if major >= oldest && !catchup.Fit(version) {
		notes = append(notes, fmt.Sprintf("PostgreSQL %d.%d has faults in reading a slot through SQL repeatedly, so a backlog is read by the stream alone, which is slower; "+
			"upgrade to %d.%d or newer", major, minor, major, catchup.FirstMinor(version)))
	}
	return notes
}

// reconnect is why a session must be replaced: tables were published, and the walsender can take them
// for tables that are not. It happens once everything that wrote to them before has been decoded and
// confirmed, so that the next walsender does not decode it again. Then the gap of the tables is
// announced again, for what was committed meanwhile.
type reconnect struct {
	mu    sync.Mutex
	state reconnectState
}

type reconnectState struct {
	tables []cdc.Table
	// writers are the transactions to wait for.
	writers []uint64
	// unknown reports that they include all that run at the next comparison.
	unknown bool
	// after is the end of the log once they had ended; 0 before that.
	after cdc.LSN
	// begun reports that a session began at or behind that.
	begun bool
	// changes counts what was noted.
	changes int
}

// published notes tables and who may write to them; unknown adds every transaction that runs at the next comparison.
func (p *reconnect) published(tables []cdc.Table, writers []uint64, unknown bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := reconnectState{tables: slices.Clone(p.state.tables), unknown: p.state.unknown || unknown, changes: p.state.changes + 1}
	for _, t := range tables {
		if !slices.Contains(s.tables, t) {
			s.tables = append(s.tables, t)
		}
	}
	s.writers = slices.Concat(p.state.writers, writers)
	p.state = s
}

// began notes that a session begins, and where.
func (p *reconnect) began(start cdc.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.begun = p.state.begun || p.state.after > 0 && start >= p.state.after
}

// now returns what is noted.
func (p *reconnect) now() reconnectState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// replace notes what follows from a state, unless tables were published in the meantime.
func (p *reconnect) replace(before, after reconnectState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.changes == before.changes {
		p.state = after
	}
}

// errReconnect ends a session whose walsender must be replaced.
var errReconnect = errors.New("reconnecting, because this minor version of PostgreSQL can go on not sending a table that was published while a transaction wrote to it")

// stepReconnect does what is next about tables that were published: it waits for their writers, then
// for the confirmation of what they did, ends the session, and in the next one announces the tables.
func (r *Reader) stepReconnect(ctx context.Context, conn *pgx.Conn) error {
	s := r.reconnect.now()
	switch {
	case len(s.tables) == 0:
		return nil
	case s.begun:
		a := announcement{Publication: r.cfg.Publication, Tables: s.tables, Causes: []cdc.TableCause{cdc.TablePublished}, Again: true}
		if err := r.announceMessage(ctx, conn, a); err != nil {
			return err
		}
		r.reconnect.replace(s, reconnectState{changes: s.changes})
		return nil
	case s.after > 0:
		if r.opts.Board.Get(watermark.Mark{Stage: watermark.Confirmed}).LSN >= s.after {
			return errReconnect
		}
		return nil
	}
	ids := make([]string, len(s.writers))
	for i, xid := range s.writers {
		ids[i] = strconv.FormatUint(xid, 10)
	}
	var ended bool
	var running []uint64
	var end string
	err := conn.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM pg_catalog.unnest($1::pg_catalog.text[]) x WHERE NOT pg_catalog.pg_visible_in_snapshot(x::pg_catalog.xid8, s)),
		ARRAY(SELECT x::pg_catalog.text::numeric FROM pg_catalog.pg_snapshot_xip(s) x), pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text FROM pg_catalog.pg_current_snapshot() s`, ids).Scan(&ended, &running, &end)
	if err != nil {
		return fmt.Errorf("read whether writers have ended: %w", err)
	}
	next := s
	switch {
	case s.unknown:
		next.writers, next.unknown = slices.Concat(s.writers, running), false
	case ended:
		if next.after, err = cdc.ParseLSN(end); err != nil {
			return err
		}
	}
	r.reconnect.replace(s, next)
	return nil
}
