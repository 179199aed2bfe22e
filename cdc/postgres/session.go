package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// session decodes one stretch of streaming.
type session struct {
	start   cdc.Session
	conn    net.Conn
	board   *watermark.Board
	handler Handler
	beat    *heartbeat
	urgent  chan struct{}
	// described is called with each table that the server describes, and the one that it described
	// just before, nil if another message came between. It returns the name that rules watch the table by.
	described func(ctx context.Context, rel, before *cdc.Relation) (watched cdc.Table, is bool, err error)
	// foreign reports that a partition of the table is a foreign table.
	foreign  func(oid uint32) bool
	notNulls notNulls
	// latest is the table that the newest message described, nil if that message is of another kind.
	latest *cdc.Relation
	// renamed are tables that are described under another name than the one that rules watch.
	renamed map[uint32]cdc.Table
	// nameOf is the name that a watched table had at the newest comparison.
	nameOf func(oid uint32) (cdc.Table, bool)
	// former are those tables under the names that rules watch.
	former map[formerly]*cdc.Relation
	// gap says which tables an announcement concerns.
	gap func(ctx context.Context, tx *cdc.Txn, a announcement) (cdc.TableGap, error)
	// publication is the one that is read, nonce returns that of the reader's announcements, empty
	// if it has written none.
	publication string
	nonce       func() string
	ignored     *ignoredMessages
	questions   *questions
	// own are walpurge's own messages of the whole transaction that is open.
	own ownMessages

	// behind says when the session ends to read its backlog through SQL, nil if it does not; never before streamUntil.
	behind      *catchup.Behind
	streamUntil cdc.LSN

	// turn confirms the slot where the status updates must not, as often as confirm says.
	turn    *turn
	confirm confirmation
	// retained is Config.MaxRetained.
	retained int64

	text    *text
	types   *sessionTypes
	aliases aliases
	decoder *pgoutput.Decoder
	// large is set while the message at hand is one that was not received as a whole.
	large bool
	xids  widener
	tx    cdc.Txn
	open  bool
	// moves are those of the whole transaction that is open.
	moves moves
	// streams are the streamed transactions that have not ended.
	streams map[uint64]*streamed
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
		PluginArgs: c.pluginArgs(),
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
		return nil, errReadAhead
	}
	return hijacked.Conn, nil
}

var errReadAhead = errors.New("the protocol code read into the replication stream")

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
		var typ byte
		var body []byte
		typ, body, b = cutMessage(b)
		if err := s.message(ctx, typ, body); err != nil {
			return err
		}
	}
	return nil
}

// cutMessage takes the first of whole messages.
func cutMessage(b []byte) (typ byte, body, rest []byte) {
	n := 1 + int(binary.BigEndian.Uint32(b[1:]))
	return b[0], b[5:n], b[n:]
}

// pause notes how far the line has been handed over, and rests.
func (s *session) pause(ctx context.Context) error {
	s.questions.close(ctx)
	if s.text.over(s.board) {
		return errConvertible
	}
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

// confirmInTurn begins a turn if one is due. What the server sends until it has ended the stream
// is handed over as ever.
func (s *session) confirmInTurn() error {
	t := s.turn
	if t.step != turnNone || !t.rep.names.counts() {
		return nil
	}
	bytes, since := t.rep.unconfirmed()
	now := time.Now()
	u := unconfirmed{bytes: bytes, age: now.Sub(since), restartLag: s.beat.restartLag(), took: t.took, limit: s.retained}
	for _, tx := range s.streams {
		u.streams, u.oldest = true, max(u.oldest, now.Sub(tx.began))
	}
	if !s.confirm.due(u) {
		return nil
	}
	return t.begin()
}

func (s *session) message(ctx context.Context, typ byte, body []byte) error {
	if s.turn.step != turnNone && typ != 'd' && typ != 'N' && typ != 'S' {
		return s.turn.message(typ, body)
	}
	switch typ {
	case 'd':
		return s.copyData(ctx, body)
	case 'E':
		return s.failed(serverError(body))
	case 'c', 'C', 'Z':
		return errShutdown
	case 'N', 'S':
		return nil
	}
	return fmt.Errorf("unexpected protocol message %q while streaming", typ)
}

// failed is an error of the server in the transaction at hand.
func (s *session) failed(err error) error {
	failed := &streamError{err: err}
	if s.open && !s.tx.Streamed {
		failed.commit = s.tx.Commit
	}
	return failed
}

func serverError(body []byte) error {
	var e pgproto3.ErrorResponse
	if err := e.Decode(body); err != nil {
		return fmt.Errorf("undecodable error from the server: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&e)
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
	if undescribed(err) {
		return s.failed(err)
	}
	if err != nil {
		return &cdc.Halt{Err: fmt.Errorf("after %s: %w", s.tx.Commit, err)}
	}
	if err := s.text.decoded(ctx, typ, s.decoder); err != nil {
		return err
	}
	if s.tx.Streamed && s.open {
		s.tx.Sub = s.xids.widen(s.decoder.XID)
	}
	if typ != pgoutput.RelationType && typ != pgoutput.TypeType {
		s.latest = nil
	}
	switch typ {
	case pgoutput.InsertType, pgoutput.UpdateType, pgoutput.DeleteType:
		return s.change(ctx, &s.decoder.Change)
	case pgoutput.StreamStartType, pgoutput.StreamStopType, pgoutput.StreamCommitType, pgoutput.StreamAbortType:
		return s.stream(ctx, typ)
	case pgoutput.BeginType:
		b := &s.decoder.Begin
		s.open = true
		s.rest.Idle = 0
		s.tx = cdc.Txn{XID: s.xids.widen(b.XID), Commit: b.Commit, Time: b.Time}
		s.moves.reset()
		s.own = ownMessages{}
	case pgoutput.CommitType:
		return s.commit(ctx)
	case pgoutput.TypeType:
		s.types.tell(s.decoder.DataType)
	case pgoutput.RelationType:
		if err := s.types.describe(ctx, s.decoder.Relation); err != nil {
			return err
		}
		return s.relation(ctx, s.decoder.Relation)
	case pgoutput.TruncateType:
		for _, rel := range s.decoder.Truncate.Relations {
			if err := s.handOverRow(ctx, &cdc.Change{Op: cdc.Truncate, Rel: rel}); err != nil {
				return err
			}
		}
	case pgoutput.LogicalType:
		m := &s.decoder.Logical
		switch {
		case isOwn(m.Prefix):
			s.ownMessage(m, s.large)
			return nil
		case !m.Transactional:
			return nil // it comes at once, whatever becomes of its transaction
		case len(m.Content) > 0 && s.handler.Hears(&s.tx, m.Prefix) > 0:
			if m.Content, err = s.text.content(ctx, m.Content); err != nil {
				return err
			}
		}
		return s.handler.Message(ctx, &s.tx, m.Prefix, m.Content)
	}
	return nil
}

// relation takes a description of a table.
func (s *session) relation(ctx context.Context, rel *cdc.Relation) error {
	watched, is, err := s.described(ctx, rel, s.latest)
	if err != nil {
		return err
	}
	s.latest = rel
	if is && watched != (cdc.Table{Schema: rel.Schema, Name: rel.Name}) {
		s.renamed[rel.OID] = watched
	} else if !is {
		delete(s.renamed, rel.OID)
	}
	return nil
}

// change hands over a row event, and before an INSERT that may complete the move of a row to
// another partition, the UPDATE that moved it. A row that an UPDATE moves to a foreign partition is
// deleted here and inserted elsewhere, so a DELETE is handed over as such an UPDATE besides.
func (s *session) change(ctx context.Context, c *cdc.Change) error {
	s.notNulls.check(c)
	if c.Rel.Partitioned {
		moves := &s.moves
		if s.tx.Streamed {
			moves = &s.streams[s.tx.XID].moves
		}
		if update := moves.update(c); update != nil {
			if err := s.handOverRow(ctx, update); err != nil {
				return err
			}
		}
	}
	if err := s.handOverRow(ctx, c); err != nil || !c.Rel.Partitioned || c.Op != cdc.Delete || !s.foreign(c.Rel.OID) {
		return err
	}
	return s.handOverRow(ctx, &cdc.Change{Op: cdc.Update, Rel: c.Rel, Old: c.Old})
}

// handOverRow hands over a change as one of its table, as one of each table that this inherits
// from, and as one of the table under the name that rules watch.
func (s *session) handOverRow(ctx context.Context, c *cdc.Change) error {
	if err := s.handler.Change(ctx, &s.tx, c); err != nil {
		return err
	}
	others := s.others(c.Rel)
	if len(others) == 0 {
		return nil // before anything is allocated
	}
	as := *c
	for _, as.Rel = range others {
		if err := s.handler.Change(ctx, &s.tx, &as); err != nil {
			return err
		}
	}
	return nil
}

// others are the tables as whose rows those of a table are handed over besides: those that it inherits
// from, and itself under other names that rules watch.
//
// The server describes a table under its new name with the next row, with two exceptions
// (rel_sync_cache_relation_cb in src/backend/replication/pgoutput/pgoutput.c): a partitioned table, where
// what it describes again depends on the partition, and before PostgreSQL 16 a table whose schema was
// renamed. So the newest comparison is asked for the name.
func (s *session) others(rel *cdc.Relation) []*cdc.Relation {
	out := s.aliases.get(rel)
	name := cdc.Table{Schema: rel.Schema, Name: rel.Name}
	watched, is := s.renamed[rel.OID]
	if is && watched != name {
		out = append(slices.Clip(out), s.under(rel, watched))
	}
	if now, is := s.nameOf(rel.OID); is && now != name && now != watched {
		out = append(slices.Clip(out), s.under(rel, now))
	}
	return out
}

// formerly is a table and another name of it.
type formerly struct {
	rel  *cdc.Relation
	name cdc.Table
}

// under returns a table under another name.
func (s *session) under(rel *cdc.Relation, name cdc.Table) *cdc.Relation {
	former := s.former[formerly{rel, name}]
	if former == nil {
		one := *rel
		one.Schema, one.Name = name.Schema, name.Name
		former = &one
		s.former[formerly{rel, name}] = former
	}
	return former
}

// commit closes the transaction at hand.
func (s *session) commit(ctx context.Context) error {
	s.tx.End = s.decoder.Commit.End
	s.open = false
	if err := s.ownCommitted(ctx, &s.own); err != nil {
		return err
	}
	s.own = ownMessages{}
	s.end, s.last = s.tx.End, s.tx.End
	if s.first.IsZero() || s.tx.Time.Before(s.first) {
		s.first = s.tx.Time
	}
	return s.handler.Commit(ctx, &s.tx)
}
