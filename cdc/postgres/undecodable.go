package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// Some transactions fail the server each time that it decodes them. A bytea of 512 MiB and more has
// a text form that is larger than the server's limit of 1 GiB for one allocation; a row filter can
// divide by zero; an output function can be gone with its library. The settings of the publication
// cannot help afterwards, because it is read as of the position in the log. So after several
// failures at one transaction the slot is advanced past it, which does not call the output plugin,
// and that is a gap.

// streamError is an error of the server within the stream.
type streamError struct {
	err error
	// commit is the place of the commit record of the transaction that the server was sending;
	// 0 if it is not known.
	commit cdc.LSN
}

func (e *streamError) Error() string { return e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

const (
	// patience is how many sessions in a row may fail at a transaction with an error of the server.
	patience = 3
	// longPatience is the same for errors that can pass: for about five minutes.
	longPatience = 30
)

// patienceWith returns how many sessions in a row may fail with an error before its transaction is
// skipped; 0 means any number. Errors of the connection, its authorization, the slot, resources,
// the operator and the system say nothing of a transaction, nor do missing privileges and a
// publication that does not exist at a position. Two of them do while a transaction is being sent:
// memory that does not suffice, and a library that is missing.
func patienceWith(err error) int {
	if undescribed(err) {
		return patience
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return 0
	}
	var failed *streamError
	sending := errors.As(err, &failed) && failed.commit > 0
	switch {
	case sending && (pg.Code == codeOutOfMemory || pg.Code == codeUndefinedFile):
		return longPatience
	case pg.Code == codePrivilege || pg.Code == codeUndefinedObject:
		return 0
	}
	switch pg.Code[:2] {
	case "08", "28", "3D", "53", "55", "57", "58", "F0":
		return 0
	}
	return patience
}

// undescribed reports a row of a table that the server has not described as it is. PostgreSQL 14 can leave
// out the description of a partitioned table after publish_via_partition_root was changed, until the
// walsender ends (get_rel_sync_entry in src/backend/replication/pgoutput/pgoutput.c).
func undescribed(err error) bool {
	var format *pgoutput.FormatError
	return errors.As(err, &format) && format.Stale
}

// failures counts sessions that failed at the same place.
type failures struct {
	// at is the place of the transaction's commit record, or the start of the session where the
	// transaction is not known.
	at    cdc.LSN
	times int
	// ahead is the end of the log at the last advance past a transaction.
	ahead cdc.LSN
}

// skip is what to do about a transaction that fails the server.
type skip struct {
	// due reports that the slot is to be advanced.
	due bool
	// to is where; 0 is the end of the log.
	to cdc.LSN
}

// failed counts a session that ended with an error, and returns what to do. Where one transaction was
// skipped already and the next failure lies in what was in the log by then, the slot is advanced to
// the end of the log: one flush answers all of them.
func (f *failures) failed(err error, s cdc.Session) skip {
	limit := patienceWith(err)
	if limit == 0 {
		return skip{}
	}
	var commit cdc.LSN
	var sent *streamError
	if errors.As(err, &sent) {
		commit = sent.commit
	}
	at := commit
	if at == 0 {
		at = s.Start.LSN
	}
	if f.at != at {
		f.at, f.times = at, 0
	}
	f.times++
	if f.times < limit {
		return skip{}
	}
	done := skip{due: true}
	if commit > 0 && commit >= f.ahead {
		// The server skips a transaction whose commit record begins before the slot's position:
		// SnapBuildXactNeedsSkip in snapbuild.c.
		done.to = commit + 1
	}
	return done
}

// skipped notes that the slot was advanced, when the log ended there.
func (f *failures) skipped(end cdc.LSN) { *f = failures{ahead: max(f.ahead, end)} }

// errSkipped ends the last session that failed at a transaction.
var errSkipped = errors.New("the server cannot decode a transaction, which is skipped")

// waitsForOperator is the error of a session where a gap is not to be bridged.
func waitsForOperator(err error) error {
	var sent *streamError
	where := "a transaction"
	if errors.As(err, &sent) && sent.commit > 0 {
		where = fmt.Sprintf("the transaction that commits at %s", sent.commit)
	}
	return &Fault{fmt.Errorf("the server cannot decode %s, and postgres.on_gap is stop: %w", where, err),
		"walpurge skip --to current, which skips what has not been read and flushes every sink"}
}
