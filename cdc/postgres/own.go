package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// Every role that may log in may write messages into the log, with any prefix and of any size. So a
// message with a prefix of walpurge's own is only believed where it is checked: a heartbeat and an
// announcement of tables have the nonce of their writer, and an announcement without a nonce only
// has the catalog asked which tables its transaction published. What of them a transaction has is
// bounded; messages that exceed the bounds, and those of others, are counted and ignored.

// ownPrefix begins the prefixes of messages that are walpurge's own.
const ownPrefix = "walpurge."

const (
	// maxOwnMessages bounds the messages of one transaction.
	maxOwnMessages = 64
	// maxUnsigned bounds a message without a nonce of this reader, in bytes. The longest that a
	// script of `walpurge setup` writes has the name of a publication in it.
	maxUnsigned = 1 << 10
	// maxTablesMessage is the size in bytes at which announcements are split.
	maxTablesMessage = 32 << 10
)

// Reasons for which messages with walpurge's own prefixes are ignored; they are metric labels.
const (
	ownTooLarge         = "too_large"
	ownTooMany          = "too_many"
	ownForeign          = "foreign" // also those of other pipelines
	ownNotTransactional = "not_transactional"
)

// ignoredMessages counts messages that are ignored. It is safe for concurrent use.
type ignoredMessages struct {
	conditions                                   *condition.Log
	tooLarge, tooMany, foreign, notTransactional atomic.Uint64
}

func (i *ignoredMessages) count(reason string) {
	switch reason {
	case ownTooLarge:
		i.tooLarge.Add(1)
	case ownTooMany:
		i.tooMany.Add(1)
	case ownForeign:
		i.foreign.Add(1)
	case ownNotTransactional:
		i.notTransactional.Add(1)
	}
	if reason == ownTooLarge || reason == ownTooMany {
		i.conditions.At(ignoredOwn, "reason", reason).Observe("messages", condition.Sum(1))
	}
}

// IgnoredMessages returns by reason how many messages with prefixes of walpurge's own were ignored
// since the start.
func (r *Reader) IgnoredMessages() map[string]uint64 {
	return map[string]uint64{
		ownTooLarge: r.ignored.tooLarge.Load(), ownTooMany: r.ignored.tooMany.Load(),
		ownForeign: r.ignored.foreign.Load(), ownNotTransactional: r.ignored.notTransactional.Load(),
	}
}

// ownMessages are those of one transaction. They count once it commits.
type ownMessages struct {
	count int
	// kept are those with the nonce of this reader.
	kept []ownMessage
	// unsigned is set where the transaction says that it published tables, without a nonce. It
	// stays set if a subtransaction is rolled back: the catalog tells what was published.
	unsigned bool
}

type ownMessage struct {
	sub     uint64
	prefix  string
	content string
}

// abort removes what a subtransaction had.
func (o *ownMessages) abort(sub uint64) {
	o.kept = slices.DeleteFunc(o.kept, func(m ownMessage) bool { return m.sub == sub })
}

// ownMessage takes a message with a prefix of walpurge's own. large reports that its content was
// left out, because of its size.
func (s *session) ownMessage(m *pgoutput.Logical, large bool) {
	if !m.Transactional {
		// It comes at once, whatever becomes of its transaction. Ours are transactional.
		s.ignored.count(ownNotTransactional)
		return
	}
	own := &s.own
	if s.tx.Streamed && s.open {
		own = &s.streams[s.tx.XID].own
	}
	if reason := s.ownReason(own, m, large); reason != "" {
		s.ignored.count(reason)
	}
}

// ownReason takes a message into own, or returns why it is ignored.
func (s *session) ownReason(own *ownMessages, m *pgoutput.Logical, large bool) (reason string) {
	own.count++
	switch {
	case own.count > maxOwnMessages:
		return ownTooMany
	case large:
		return ownTooLarge
	case s.signed(m):
		if kept := (ownMessage{s.tx.Sub, m.Prefix, string(m.Content)}); !slices.Contains(own.kept, kept) {
			own.kept = append(own.kept, kept)
		}
		return ""
	case len(m.Content) > maxUnsigned:
		return ownTooLarge
	}
	var a announcement
	if m.Prefix != tablesPrefix || json.Unmarshal(m.Content, &a) != nil || a.Publication != s.publication {
		return ownForeign
	}
	own.unsigned = true
	return ""
}

// signed reports whether a message has the nonce that only its writer and this reader know.
func (s *session) signed(m *pgoutput.Logical) bool {
	switch m.Prefix {
	case heartbeatPrefix:
		return s.beat.wrote(m.Content)
	case tablesPrefix:
		nonce := s.nonce()
		return nonce != "" && bytes.Contains(m.Content, []byte(nonce))
	}
	return false
}

// ownCommitted carries out the messages of a transaction that has committed.
func (s *session) ownCommitted(ctx context.Context, own *ownMessages) error {
	for _, m := range own.kept {
		if m.prefix == heartbeatPrefix {
			s.beat.returned([]byte(m.content))
			continue
		}
		var a announcement
		if json.Unmarshal([]byte(m.content), &a) != nil || a.Publication != s.publication {
			s.ignored.count(ownForeign)
			continue
		}
		if err := s.tablesAnnounced(ctx, a); err != nil {
			return err
		}
	}
	if own.unsigned {
		return s.tablesAnnounced(ctx, announcement{Publication: s.publication})
	}
	return nil
}

func (s *session) tablesAnnounced(ctx context.Context, a announcement) error {
	gap, err := s.gap(ctx, &s.tx, a)
	if err != nil || len(gap.Tables) == 0 {
		return err
	}
	return s.handler.TableGap(ctx, &s.tx, gap)
}

func isOwn(prefix string) bool { return strings.HasPrefix(prefix, ownPrefix) }

// parts splits an announcement of many tables.
func (a announcement) parts() []announcement {
	if len(a.Tables) < 2 || len(encode(a)) <= maxTablesMessage {
		return []announcement{a}
	}
	first, second := a, a
	half := len(a.Tables) / 2
	first.Tables, second.Tables = a.Tables[:half], a.Tables[half:]
	return append(first.parts(), second.parts()...)
}

// questions asks the database about messages in the log, on a connection that lasts until close.
type questions struct {
	connect func(ctx context.Context) (*pgx.Conn, error)
	conn    *pgx.Conn
}

// ask calls f with the connection. It blocks while it connects.
func (q *questions) ask(ctx context.Context, f func(conn *pgx.Conn) error) error {
	if q.conn == nil {
		conn, err := q.connect(ctx)
		if err != nil {
			return err
		}
		q.conn = conn
	}
	err := f(q.conn)
	if err != nil {
		q.close(ctx)
	}
	return err
}

func (q *questions) close(ctx context.Context) {
	if q.conn != nil {
		_ = q.conn.Close(context.WithoutCancel(ctx)) // nothing is left to be done on it
		q.conn = nil
	}
}
