package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// calls notes what a session hands over.
type calls struct {
	said []string
	rest cdc.Rest
}

func (c *calls) Start(context.Context, cdc.Session) error { return nil }
func (c *calls) Reads(*cdc.Txn, *cdc.Relation) []bool     { return nil }
func (c *calls) Hears(*cdc.Txn, string) int               { return 1 << 30 }
func (c *calls) Change(context.Context, *cdc.Txn, *cdc.Change) error {
	c.said = append(c.said, "change")
	return nil
}
func (c *calls) TableGap(_ context.Context, tx *cdc.Txn, gap cdc.TableGap) error {
	c.said = append(c.said, fmt.Sprintf("gap of %s in %d", gap.Tables, tx.XID))
	return nil
}
func (c *calls) Message(_ context.Context, tx *cdc.Txn, prefix string, content []byte) error {
	c.said = append(c.said, fmt.Sprintf("message %s %s in %d", prefix, content, tx.XID))
	return nil
}
func (c *calls) Abort(_ context.Context, tx *cdc.Txn) error {
	c.said = append(c.said, fmt.Sprintf("abort %d in %d", tx.Sub, tx.XID))
	return nil
}
func (c *calls) Commit(context.Context, *cdc.Txn) error {
	c.said = append(c.said, "commit")
	return nil
}
func (c *calls) Rest(_ context.Context, r cdc.Rest) error {
	c.rest = r
	return nil
}

func newSession(h Handler) *session {
	board := watermark.NewBoard()
	return &session{
		text:  &text{},
		start: cdc.Session{Start: cdc.Position{SystemID: "1", Timeline: 1, LSN: 100}}, board: board, handler: h,
		publication: "p", nonce: func() string { return "secret" }, questions: &questions{},
		ignored: &ignoredMessages{conditions: condition.NewLog(slog.New(slog.DiscardHandler))},
		beat:    &heartbeat{nonce: "secret", board: board, conditions: condition.NewLog(slog.New(slog.DiscardHandler))}, urgent: make(chan struct{}, 1), decoder: pgoutput.NewDecoder(),
		streams: make(map[uint64]*streamed), foreign: func(uint32) bool { return false }, nameOf: new(watching).nameOf, notNulls: notNulls{now: func() *map[uint32][]string { return nil }}, described: func(context.Context, *cdc.Relation, *cdc.Relation) (cdc.Table, bool, error) {
			return cdc.Table{}, false, nil
		}, turn: &turn{rep: &reporter{board: board, names: newSyncNames(nil)}},
	}
}

// copyData frames a replication message as the protocol does.
func copyData(body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'d'}, uint32(len(body)+4))
	return append(b, body...)
}

func wal(payload ...byte) []byte {
	return copyData(append(append([]byte{'w'}, make([]byte, 24)...), payload...))
}

func keepalive(lsn uint64, urgent byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'k'}, lsn)
	return copyData(append(append(b, make([]byte, 8)...), urgent))
}

func begin(lsn uint64, xid uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'B'}, lsn)
	return wal(binary.BigEndian.AppendUint32(append(b, make([]byte, 8)...), xid)...)
}

func commit(lsn uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'C', 0}, lsn)
	b = binary.BigEndian.AppendUint64(b, lsn+10)
	return wal(append(b, make([]byte, 8)...)...)
}

// message is what pg_logical_emit_message writes.
func message(transactional byte, prefix, content string) []byte {
	b := append([]byte{'M', transactional}, make([]byte, 8)...)
	b = append(append(b, prefix...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	return wal(append(b, content...)...)
}

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func TestGulp(t *testing.T) {
	for _, c := range []struct {
		name     string
		gulp     []byte
		said     []string
		idle     cdc.LSN
		received cdc.LSN
		urgent   bool
	}{
		{"idle", keepalive(200, 0), nil, 200, 200, false},
		{"asked", keepalive(200, 1), nil, 200, 200, true},
		{"commit", join(begin(190, 7), commit(190)), []string{"commit"}, 0, 200, false},
		{"keepalive after the commit", join(begin(190, 7), commit(190), keepalive(300, 0)), []string{"commit"}, 300, 300, false},
		{"keepalive before the commit's end", join(begin(190, 7), commit(190), keepalive(195, 0)), []string{"commit"}, 0, 200, false},
		{"keepalive inside", join(begin(190, 7), keepalive(300, 1)), nil, 0, 0, true},
		{"keepalive, then a transaction that does not end", join(keepalive(180, 0), begin(190, 7)), nil, 0, 0, false},
		{"messages outside of transactions", join(message(0, heartbeatPrefix, "5 secret"), message(0, "cache.purge", "{}")), nil, 0, 0, false},
		{"a message outside of a transaction, though one is open", join(begin(190, 7), message(0, "cache.purge", "{}")), nil, 0, 0, false},
		{"messages in their place", join(begin(190, 7), message(1, "cache.purge", "{}"), message(1, "", ""), commit(190)), []string{"message cache.purge {} in 7", "message   in 7", "commit"}, 0, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &calls{}
			s := newSession(h)
			require.NoError(t, s.gulp(t.Context(), c.gulp))
			require.Equal(t, c.said, h.said)
			require.Equal(t, cdc.Rest{Idle: c.idle, Urgent: c.urgent}, h.rest)
			require.Equal(t, c.received, s.board.Get(watermark.Mark{Stage: watermark.Received}).LSN)
			require.True(t, s.beat.lastSeen.IsZero(), "a message that a rolled back transaction may have left is no heartbeat")
		})
	}
}

func TestHeartbeatReturns(t *testing.T) {
	s := newSession(&calls{})
	require.NoError(t, s.gulp(t.Context(), join(begin(190, 7), message(1, heartbeatPrefix, "1700000000000000 secret"), commit(190))))
	require.Equal(t, int64(1700000000000000), s.beat.lastSeen.UnixMicro())
	for _, forged := range []string{"not a number secret", "", " ", " secret", "1800000000000000", "1800000000000000 guess", "1800000000000000  secret", strings.Repeat("9", 100) + " secret", "\xff\x00 secret"} {
		require.NoError(t, s.gulp(t.Context(), join(begin(290, 8), message(1, heartbeatPrefix, forged), message(1, "other", "9"), commit(290))))
		require.Equal(t, int64(1700000000000000), s.beat.lastSeen.UnixMicro(), forged)
	}
}

// TestAnnouncementsAreNoMessages: what the reader writes into the log itself is not
// for rules, and what others write is no announcement.
func TestAnnouncementsAreNoMessages(t *testing.T) {
	h := &calls{}
	s := newSession(h)
	var read []announcement
	s.gap = func(_ context.Context, _ *cdc.Txn, a announcement) (cdc.TableGap, error) {
		read = append(read, a)
		return cdc.TableGap{Tables: a.Tables}, nil
	}
	ours := announcement{Publication: "p", Tables: []cdc.Table{{Schema: "public", Name: "t"}}, Nonce: "secret"}
	require.NoError(t, s.gulp(t.Context(), join(
		message(0, tablesPrefix, encode(ours)),
		begin(190, 7), message(1, tablesPrefix, encode(ours)), message(1, "cache.purge", "{}"), message(1, heartbeatPrefix, "5 secret"), message(1, tablesPrefix, "other"), commit(190))))
	require.Equal(t, []announcement{ours}, read)
	require.Equal(t, []string{"message cache.purge {} in 7", "gap of [public.t] in 7", "commit"}, h.said)
}

// TestUndecodable: a message that is not understood is a change that may be
// lost, so the daemon must stop and name it.
func TestUndecodable(t *testing.T) {
	for name, c := range map[string]struct {
		gulp []byte
		want string
	}{
		"unknown type": {wal('Z'), "undecodable pgoutput message unknown type 'Z' at byte 0"},
		"cut short":    {wal('B', 1, 2), "undecodable pgoutput message Begin"},
		"empty":        {wal(), "empty message"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &calls{}
			err := newSession(h).gulp(t.Context(), join(begin(190, 7), c.gulp, commit(190)))
			var halt *cdc.Halt
			require.ErrorAs(t, err, &halt)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "after 0/BE")
			require.Empty(t, h.said, "nothing after it is handed over")
		})
	}
	// What is wrong with the connection is mended by a new one.
	for name, gulp := range map[string][]byte{
		"unknown relation":  join(begin(190, 7), wal('I', 0, 0, 64, 7, 'N', 0, 0)),
		"end of the stream": {'c', 0, 0, 0, 4},
		"error":             join([]byte{'E', 0, 0, 0, 24}, []byte("SFATAL\x00C57P01\x00Mbye\x00\x00")),
		"unknown protocol":  {'T', 0, 0, 0, 4},
		"cut keepalive":     copyData([]byte{'k', 0}),
	} {
		t.Run(name, func(t *testing.T) {
			err := newSession(&calls{}).gulp(t.Context(), gulp)
			require.Error(t, err)
			var halt *cdc.Halt
			require.NotErrorAs(t, err, &halt)
		})
	}
}

// TestWiden follows transaction ids over several wraps, each near the newest
// seen, as the server's are.
func TestWiden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newest := rapid.Uint64Range(3, 1<<40).Draw(t, "newest")
		w := widener{newest: newest}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			back := min(newest-1, math.MaxInt32)
			full := rapid.Uint64Range(newest-back, newest+math.MaxInt32).Draw(t, "xid")
			require.Equal(t, full, w.widen(uint32(full)))
			newest = max(newest, full)
			require.Equal(t, newest, w.newest)
		}
	})
}

// TestReceiverCuts gives the receiver a stream in random pieces: it must hand
// over whole messages, all of them, in order.
func TestReceiverCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		for range rapid.IntRange(0, 30).Draw(t, "messages") {
			size := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 2*largeMessage)).Draw(t, "size")
			body := make([]byte, size)
			for i := range body {
				body[i] = byte(i + size)
			}
			stream = append(stream, copyData(body)...)
		}
		server, client := net.Pipe()
		go func() {
			for at := 0; at < len(stream); {
				end := min(len(stream), at+1+(at*7+len(stream))%(slabSize+1000))
				_, _ = server.Write(stream[at:end])
				at = end
			}
			server.Close()
		}()
		rc := newReceiver(client, client)
		done := make(chan error, 1)
		go func() { done <- rc.run(context.Background()) }()
		var got []byte
		for gulp := range rc.gulps {
			if l := gulp.large; l != nil {
				got = binary.BigEndian.AppendUint32(append(got, 'd'), uint32(l.body.N)+4)
				body, err := io.ReadAll(l)
				require.NoError(t, err)
				got = append(got, body...)
				close(l.done)
				continue
			}
			whole, err := wholeMessages(gulp.whole)
			require.NoError(t, err)
			require.Equal(t, len(gulp.whole), whole)
			got = append(got, gulp.whole...)
			rc.recycle(gulp.whole)
		}
		require.Error(t, <-done, "the end of the connection")
		require.True(t, bytes.Equal(stream, got))
		for len(rc.free) > 0 {
			require.LessOrEqual(t, cap(<-rc.free), largeMessage, "a wide row does not hold its memory")
		}
	})
	for _, bad := range [][]byte{{'d', 0, 0, 0, 3}, {'d', 0xff, 0xff, 0xff, 0xff}} {
		_, err := wholeMessages(bad)
		require.Error(t, err)
	}
}

func TestHandshakeReaderTakesNoMore(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("abc"))
		w.CloseWithError(errors.New("done"))
	}()
	hr := &handshakeReader{r: r, careful: true}
	buf := make([]byte, 10)
	n, err := hr.Read(buf)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	hr.careful = false
	n, err = hr.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "bc", string(buf[:n]))
}

func TestUnparsableURLShowsNoPassword(t *testing.T) {
	for _, url := range []string{
		"postgres://u:sec/ret@h/db", "postgres://u:sec%zzret@h/db", "postgres://a@u:sec:ret@h/db", "postgres://u:secret@h:port/db",
		"postgres://u@h/db?password=sec%zzret", "host=h password='secret", "host=h password=secret port=x", "postgres://u:sec#ret@h/db",
	} {
		cfg := DefaultConfig("app")
		cfg.URL = url
		err := cfg.Validate()
		if err == nil {
			continue // some are odd and yet valid
		}
		for _, part := range []string{"sec", "ret"} {
			require.NotContains(t, err.Error(), part, url)
		}
	}
}
