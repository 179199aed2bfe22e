package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// allocated is how much memory the process has ever allocated, in bytes.
func allocated() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.TotalAlloc)
}

// TestLargeValuesThatNoRuleReads: a value that no rule reads costs no memory, however it arrives. The
// control is the same value with a reader that wants it.
func TestLargeValuesThatNoRuleReads(t *testing.T) {
	const size = 16 << 20
	s := newServer(t)
	s.exec("CREATE TABLE full_items (id int PRIMARY KEY, note text); ALTER TABLE full_items REPLICA IDENTITY FULL")
	s.exec("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
	s.exec("SELECT pg_reload_conf()")
	s.watches = Watch{Tables: public("items", "full_items")}
	idOnly := func(*cdc.Relation) []bool { return []bool{true, false} }
	h := &sinkhole{reads: idOnly}
	r := s.run(h, Streaming)
	last := 0
	// costs is what the process allocates until it has read what the statements do.
	costs := func(sql string, args ...any) int {
		last++
		before := allocated()
		s.exec("BEGIN")
		s.exec(fmt.Sprintf(sql, args...))
		s.exec(fmt.Sprintf("INSERT INTO items VALUES (%d, '')", 1000+last))
		s.exec("COMMIT")
		eventually(t, 30*time.Second, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.ids[fmt.Sprint(1000+last)] > 0 }, "the change arrives")
		return allocated() - before
	}
	value := fmt.Sprintf("repeat('0123456789abcdef', %d)", size/16)
	for _, c := range []struct{ name, sql string }{
		{"insert", "INSERT INTO items VALUES (1, %s)"},
		{"update of the identity", "UPDATE items SET id = 2, note = 'x' || %s WHERE id = 1"},
		{"insert, identity FULL", "INSERT INTO full_items VALUES (3, %s)"},
		{"update, identity FULL", "UPDATE full_items SET note = 'y' || %s WHERE id = 3"},
		{"delete, identity FULL", "DELETE FROM full_items WHERE note <> %s"},
		{"within a block", "INSERT INTO items SELECT n, repeat(md5(n::text), 10) FROM generate_series(4, 900) n; UPDATE items SET note = %s WHERE id = 4"},
	} {
		require.Less(t, costs(c.sql, value), size/4, c.name)
	}
	r.mu.Lock()
	require.Zero(t, r.notes["2"])
	require.NotZero(t, r.ids["2"])
	require.NotZero(t, r.ids["3"])
	require.NotZero(t, r.ids["4"])
	r.mu.Unlock()
	require.Equal(t, 1, r.sessions())
	r.end(t)

	h = &sinkhole{}
	r = s.run(h, Streaming)
	require.Greater(t, costs("INSERT INTO items VALUES (901, %s)", value), size, "control: a value that is read")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, size, r.notes["901"])
}

// deaf is a handler that reads no message.
type deaf struct{ calls }

func (*deaf) Hears(*cdc.Txn, string) int { return 0 }

// TestLargeMessagesThatNoRuleReads: nor does the content of a message that no rule carries out.
func TestLargeMessagesThatNoRuleReads(t *testing.T) {
	content := strings.Repeat("x", 16<<20)
	h := &deaf{}
	client, server := pipeTCP(t)
	rc := newReceiver(client, client)
	receiving := make(chan error, 1)
	go func() { receiving <- rc.run(context.Background()) }()
	stream := join(begin(190, 7), message(1, "cache.purge", content), message(0, heartbeatPrefix, content), message(1, "cache.purge", ""), commit(190))
	go func() {
		_, _ = server.Write(stream)
		server.Close()
	}()
	before := allocated()
	require.NoError(t, newSession(h).feed(t.Context(), rc))
	require.Less(t, allocated()-before, len(content)/4)
	require.ErrorContains(t, <-receiving, "closed the replication connection")
	require.Equal(t, []string{"message cache.purge  in 7", "message cache.purge  in 7", "commit"}, h.said)
}

// halved follows a session within a large message: the server writes the first half of one, and the
// other once rest is closed. updates counts what it hears.
func halved(t *testing.T, size int, rest chan struct{}) (h *calls, updates *atomic.Int32, stop context.CancelFunc, ended chan error) {
	server, client := net.Pipe()
	h, updates = &calls{}, &atomic.Int32{}
	s := newSession(h)
	s.conn = client
	r := offline("postgres://walpurge@127.0.0.1:1/shop?sslmode=disable", s.board)
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() {
		ended <- r.stream(ctx, s, newReceiver(client, client), nil)
		client.Close()
	}()
	go func() {
		huge := message(1, "cache.purge", strings.Repeat("x", size))
		_, _ = server.Write(join(begin(190, 7), commit(190), begin(290, 8), huge[:len(huge)/2]))
		<-rest
		_, _ = server.Write(join(huge[len(huge)/2:], commit(290)))
	}()
	go func() {
		var update [39]byte
		for {
			if _, err := io.ReadFull(server, update[:]); err != nil {
				return
			}
			updates.Add(1)
		}
	}()
	return h, updates, stop, ended
}

// TestServerHearsFromUsWithinALargeMessage: the server gets status updates while a large message
// has not arrived in full.
func TestServerHearsFromUsWithinALargeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		h, updates, stop, ended := halved(t, 2*largeMessage, rest)
		time.Sleep(silence / 2)
		require.Greater(t, int(updates.Load()), int(silence/2/pingPause)-2)
		require.Equal(t, []string{"commit"}, h.said)
		close(rest)
		synctest.Wait()
		require.Len(t, h.said, 3, "the message, and the commit behind it")
		stop()
		require.NoError(t, <-ended)
	})
}

// TestStopWithinALargeMessage: a stop does not wait for the rest of a large message, which comes
// again.
func TestStopWithinALargeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		h, _, stop, ended := halved(t, 4*largeMessage, rest)
		time.Sleep(time.Second)
		asked := time.Now()
		stop()
		require.NoError(t, <-ended)
		require.LessOrEqual(t, time.Since(asked), 5*time.Second, "StopGrace")
		require.Equal(t, []string{"commit"}, h.said)
		close(rest)
	})
}

// TestLargeMessageThatStalls: a server that falls silent within a message is given up as ever.
func TestLargeMessageThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		h, _, _, ended := halved(t, 2*largeMessage, rest)
		require.ErrorContains(t, <-ended, "the server sent nothing for 1m0s")
		require.Equal(t, []string{"commit"}, h.said)
		close(rest)
	})
}

// TestLastTurnAfterAPartOfALargeMessage: what is left of a message is read past before the server's
// answers.
func TestLastTurnAfterAPartOfALargeMessage(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	board := watermark.NewBoard(watermark.Mark{Stage: watermark.Synced}, watermark.Mark{Stage: watermark.Confirmed})
	rep := &reporter{conn: client, board: board, start: cdc.Position{LSN: 100}}
	go func() {
		defer server.Close()
		_, _ = server.Write(make([]byte, 3*largeMessage))
		for _, answer := range [][]byte{
			join(keepalive(300, 0), frame('c', ""), frame('C', "COPY\x00"), frame('Z', "I")),
			join(frame('D', "\x00\x00"), frame('C', "SELECT 1\x00"), frame('Z', "I")),
		} {
			var head [5]byte
			if _, err := io.ReadFull(server, head[:]); err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, server, int64(binary.BigEndian.Uint32(head[1:]))-4)
			_, _ = server.Write(answer)
		}
	}()
	require.NoError(t, rep.lastTurn(&remainder{unread: 3 * largeMessage, Reader: client}, "s"))
	require.Equal(t, cdc.LSN(100), rep.done)
}

// readers reads another column of each table.
type readers struct{ calls }

func (*readers) Reads(_ *cdc.Txn, rel *cdc.Relation) []bool {
	return map[string][]bool{"child": {}, "items": {true, false, false}}[rel.Name]
}

// TestReadsUnderEachName: a row that is handed over under several tables keeps what any of them reads.
func TestReadsUnderEachName(t *testing.T) {
	s := newSession(&readers{})
	s.aliases.now = func() *kin { return nil }
	rel := &cdc.Relation{OID: 7, Schema: "public", Name: "child", Columns: make([]cdc.Column, 3)}
	require.Equal(t, []bool{false, false, false}, s.reads(rel))
	s.renamed = map[uint32]cdc.Table{7: {Schema: "public", Name: "items"}}
	s.former = make(map[formerly]*cdc.Relation)
	require.Equal(t, []bool{true, false, false}, s.reads(rel))
	s.renamed[7] = cdc.Table{Schema: "public", Name: "all"}
	require.Nil(t, s.reads(rel))
}
