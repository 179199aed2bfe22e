package postgres

import (
	"context"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// pluginArgs asks for the stream. Version 2 of the protocol is that of PostgreSQL 14, and
// begins to send a transaction that outgrows logical_decoding_work_mem before it ends.
func (c Config) pluginArgs() []string {
	args := []string{"messages 'true'", "publication_names '" + c.Publication + "'"}
	if !c.Streaming {
		return append(args, "proto_version '1'")
	}
	return append(args, "proto_version '2'", "streaming 'on'")
}

// streamed is a transaction that the server sends before it ends.
type streamed struct {
	// began is when its first block arrived.
	began time.Time
	moves moves
	own   ownMessages
}

// stream takes what frames blocks and ends their transactions.
func (s *session) stream(ctx context.Context, typ pgoutput.Type) error {
	switch d := s.decoder; typ {
	case pgoutput.StreamStartType:
		xid := s.xids.widen(d.StreamStart.XID)
		s.tx = cdc.Txn{XID: xid, Sub: xid, Streamed: true}
		if s.streams[xid] == nil {
			s.streams[xid] = &streamed{began: time.Now()}
		}
		s.open, s.rest.Idle = true, 0
	case pgoutput.StreamStopType:
		s.open = false
	case pgoutput.StreamAbortType:
		tx := cdc.Txn{XID: s.xids.widen(d.StreamAbort.XID), Sub: s.xids.widen(d.StreamAbort.Sub), Streamed: true}
		if tx.Sub == tx.XID {
			delete(s.streams, tx.XID)
		} else if t := s.streams[tx.XID]; t != nil {
			t.own.abort(tx.Sub)
		}
		return s.handler.Abort(ctx, &tx)
	case pgoutput.StreamCommitType:
		xid := s.xids.widen(d.Commit.XID)
		s.tx = cdc.Txn{XID: xid, Sub: xid, Streamed: true, Commit: d.Commit.Commit, Time: d.Commit.Time}
		if t := s.streams[xid]; t != nil {
			delete(s.streams, xid)
			s.own = t.own
		}
		return s.commit(ctx)
	}
	return nil
}
