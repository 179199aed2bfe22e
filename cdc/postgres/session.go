package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// Handler is what a reader feeds. Its methods are called by one goroutine, in
// the order of the log, and may block: that stops the reader and in time the
// server, never the application. An error ends the session; a *cdc.Halt in it
// ends the reader.
type Handler interface {
	// Start is called when streaming has begun, before anything else.
	Start(ctx context.Context, s cdc.Session) error
	// Change hands over a row event or a TRUNCATE of one table. Transaction and
	// change are valid during the call only.
	Change(ctx context.Context, tx *cdc.Txn, c *cdc.Change) error
	// TableGap tells, within a transaction, that changes of some tables may have
	// been committed and not streamed. What it publishes must be safe before the
	// transaction's end is.
	TableGap(ctx context.Context, tx *cdc.Txn, gap cdc.TableGap) error
	// Message hands over a transactional message that is not the reader's own, in
	// its place among the changes. content is valid during the call only.
	Message(ctx context.Context, tx *cdc.Txn, prefix string, content []byte) error
	// Commit closes the transaction.
	Commit(ctx context.Context, tx *cdc.Txn) error
	// Rest is called when all that one read brought has been handed over.
	Rest(ctx context.Context, r cdc.Rest) error
}

// session decodes one stretch of streaming.
type session struct {
	start   cdc.Session
	conn    net.Conn
	board   *watermark.Board
	handler Handler
	beat    *heartbeat
	urgent  chan struct{}
	// gap reads an announcement of tables.
	gap func(ctx context.Context, tx *cdc.Txn, content []byte) (cdc.TableGap, error)

	decoder *pgoutput.Decoder
	xids    widener
	tx      cdc.Txn
	open    bool
	rest    cdc.Rest
	// end and first describe the commits since the last rest, last is the newest
	// commit of the session.
	end, last cdc.LSN
	first     time.Time
	// sent is the server's clock when it sent the newest message, in microseconds
	// since 2000.
	sent int64
}

// committed is the end of the newest transaction handed over whole.
func (s *session) committed() cdc.Position {
	p := s.start.Start
	p.LSN = max(p.LSN, s.last)
	return p
}

// startStreaming sends START_REPLICATION and takes the connection over.
func (c Config) startStreaming(ctx context.Context, conn *pgconn.PgConn, hr *handshakeReader) (net.Conn, error) {
	hr.careful = true
	err := pglogrepl.StartReplication(ctx, conn, c.Slot, 0, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "messages 'true'", "publication_names '" + c.Publication + "'"},
	})
	hr.careful = false
	if err != nil {
		return nil, err
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the replication connection: %w", err)
	}
	if hijacked.Frontend.ReadBufferLen() != 0 {
		return nil, errors.New("the protocol code read into the replication stream")
	}
	return hijacked.Conn, nil
}

// errShutdown is the server's way of ending the stream in good order.
var errShutdown = errors.New("the server ended the replication stream (it is shutting down, or the walsender was terminated)")

// gulp hands over every message of one gulp, then rests.
func (s *session) gulp(ctx context.Context, b []byte) error {
	if err := s.handOver(ctx, b); err != nil {
		return err
	}
	return s.pause(ctx)
}

// handOver hands over every message of one gulp.
func (s *session) handOver(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		n := 1 + int(binary.BigEndian.Uint32(b[1:]))
		if err := s.message(ctx, b[0], b[5:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// pause notes how far the line has been handed over, and rests.
func (s *session) pause(ctx context.Context) error {
	at := s.start.Start
	if at.LSN = max(s.end, s.rest.Idle); at.LSN > 0 {
		if s.end > 0 {
			s.board.NoteCommits(at, s.first)
		}
		s.board.Advance(watermark.Mark{Stage: watermark.Received}, at)
		if failpoint.On("keepalive_confirms_pending_work") {
			s.board.Advance(watermark.Mark{Stage: watermark.Synced}, at)
		}
	}
	if s.rest.Idle <= s.end {
		s.rest.Idle = 0
	}
	rest := s.rest
	s.rest, s.end, s.first = cdc.Rest{}, 0, time.Time{}
	return s.handler.Rest(ctx, rest)
}

func (s *session) message(ctx context.Context, typ byte, body []byte) error {
	switch typ {
	case 'd':
		return s.copyData(ctx, body)
	case 'E':
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			return fmt.Errorf("undecodable error from the server: %w", err)
		}
		return pgconn.ErrorResponseToPgError(&e)
	case 'c', 'C', 'Z':
		return errShutdown
	case 'N', 'S':
		return nil
	}
	return fmt.Errorf("unexpected protocol message %q while streaming", typ)
}

func (s *session) copyData(ctx context.Context, b []byte) error {
	switch {
	case len(b) >= 25 && b[0] == pglogrepl.XLogDataByteID:
		s.sent = int64(binary.BigEndian.Uint64(b[17:]))
		return s.wal(ctx, b[25:])
	case len(b) == 18 && b[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		if !s.open {
			s.rest.Idle = cdc.LSN(binary.BigEndian.Uint64(b[1:]))
		}
		if b[17] != 0 {
			s.rest.Urgent = true
			select {
			case s.urgent <- struct{}{}:
			default:
			}
		}
		return nil
	}
	return fmt.Errorf("undecodable replication message of %d bytes", len(b))
}

func (s *session) wal(ctx context.Context, data []byte) error {
	typ, err := s.decoder.Decode(data)
	if err != nil {
		return &cdc.Halt{Err: fmt.Errorf("after %s: %w", s.tx.Commit, err)}
	}
	switch typ {
	case pgoutput.InsertType, pgoutput.UpdateType, pgoutput.DeleteType:
		return s.handler.Change(ctx, &s.tx, &s.decoder.Change)
	case pgoutput.BeginType:
		b := &s.decoder.Begin
		s.open = true
		s.rest.Idle = 0
		s.tx = cdc.Txn{XID: s.xids.widen(b.XID), Commit: b.Commit, Time: b.Time}
	case pgoutput.CommitType:
		s.tx.End = s.decoder.Commit.End
		s.open = false
		s.end, s.last = s.tx.End, s.tx.End
		if s.first.IsZero() || s.tx.Time.Before(s.first) {
			s.first = s.tx.Time
		}
		return s.handler.Commit(ctx, &s.tx)
	case pgoutput.TruncateType:
		for _, rel := range s.decoder.Truncate.Relations {
			if err := s.handler.Change(ctx, &s.tx, &cdc.Change{Op: cdc.Truncate, Rel: rel}); err != nil {
				return err
			}
		}
	case pgoutput.LogicalType:
		// The others come at once, whatever becomes of their transaction.
		switch m := &s.decoder.Logical; {
		case !m.Transactional:
		case m.Prefix == heartbeatPrefix:
			s.beat.returned(m.Content)
		case m.Prefix == tablesPrefix:
			gap, err := s.gap(ctx, &s.tx, m.Content)
			if err != nil || len(gap.Tables) == 0 {
				return err
			}
			return s.handler.TableGap(ctx, &s.tx, gap)
		default:
			return s.handler.Message(ctx, &s.tx, m.Prefix, m.Content)
		}
	}
	return nil
}

// widener makes 64-bit transaction ids of the protocol's 32 bits: the one
// nearest to the newest seen, since running transactions never lie more than
// 2^31 apart.
type widener struct{ newest uint64 }

func (w *widener) widen(xid uint32) uint64 {
	full := w.newest + uint64(int64(int32(xid-uint32(w.newest))))
	if full > w.newest {
		w.newest = full
	}
	return full
}
