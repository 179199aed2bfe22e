package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// TestForgedMessages: what others write with walpurge's own prefixes is counted by the reason for which it is
// ignored, whether it comes in a whole transaction or in one that is streamed.
func TestForgedMessages(t *testing.T) {
	table := []cdc.Table{{Schema: "public", Name: "t"}}
	forged := encode(announcement{Publication: "p", Tables: table, Nonce: "guess", Again: true})
	for _, c := range []struct {
		name            string
		prefix, content string
		times           int
		ignored         map[string]uint64
		// asks is how often the database is asked what the transaction published.
		asks int
	}{
		{"a heartbeat", heartbeatPrefix, "99999999999999999", 1, map[string]uint64{ownForeign: 1}, 0},
		{"an empty heartbeat", heartbeatPrefix, "", 1, map[string]uint64{ownForeign: 1}, 0},
		{"a heartbeat that is no text", heartbeatPrefix, "\xff\xfe\x00", 1, map[string]uint64{ownForeign: 1}, 0},
		{"a long heartbeat", heartbeatPrefix, strings.Repeat("9", maxUnsigned+1), 1, map[string]uint64{ownTooLarge: 1}, 0},
		{"a large heartbeat", heartbeatPrefix, strings.Repeat("9", largeMessage), 2, map[string]uint64{ownTooLarge: 2}, 0},
		{"a large one with the nonce", tablesPrefix, `{"publication":"p","nonce":"secret"}` + strings.Repeat(" ", largeMessage), 1, map[string]uint64{ownTooLarge: 1}, 0},
		{"many heartbeats", heartbeatPrefix, "7", maxOwnMessages + 10, map[string]uint64{ownForeign: maxOwnMessages, ownTooMany: 10}, 0},
		{"an announcement asks the catalog once", tablesPrefix, forged, maxOwnMessages + 10, map[string]uint64{ownTooMany: 10}, 1},
		{"of another publication", tablesPrefix, `{"publication": "other"}`, 1, map[string]uint64{ownForeign: 1}, 0},
		{"no JSON", tablesPrefix, `{"publication": "p"`, 1, map[string]uint64{ownForeign: 1}, 0},
		{"the nonce around no JSON", tablesPrefix, `secret`, 1, map[string]uint64{ownForeign: 1}, 0},
		{"nested", tablesPrefix, strings.Repeat("[", maxUnsigned), 1, map[string]uint64{ownForeign: 1}, 0},
		{"empty", tablesPrefix, "", 1, map[string]uint64{ownForeign: 1}, 0},
		{"an unknown prefix", "walpurge.next", "x", 1, map[string]uint64{ownForeign: 1}, 0},
		{"a long prefix", "walpurge." + strings.Repeat("x", 2*largeMessage), "x", 1, map[string]uint64{ownTooLarge: 1}, 0},
		{"the prefix alone", "walpurge.", "", 1, map[string]uint64{ownForeign: 1}, 0},
	} {
		whole := append(begin(190, 7), repeated(c.times, message(1, c.prefix, c.content))...)
		blocks := append(blockStart(7), repeated(c.times, blockMessage(9, c.prefix, c.content))...)
		for how, stream := range map[string][]byte{"whole": append(whole, commit(190)...), "streamed": join(blocks, blockStop(), streamCommit(7, 190))} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				h := &calls{}
				s := newSession(h)
				asks := 0
				s.gap = func(_ context.Context, _ *cdc.Txn, a announcement) (cdc.TableGap, error) {
					asks++
					require.Equal(t, announcement{Publication: "p"}, a)
					return cdc.TableGap{}, nil
				}
				feedAll(t, s, stream)
				require.Equal(t, []string{"commit"}, h.said)
				require.True(t, s.beat.lastSeen.IsZero())
				require.Equal(t, c.asks, asks)
				require.Equal(t, c.ignored, ignoredOf(s))
			})
		}
	}
	s := newSession(&calls{})
	require.NoError(t, s.gulp(t.Context(), repeated(1000, message(0, heartbeatPrefix, "1 secret"))))
	require.Equal(t, map[string]uint64{ownNotTransactional: 1000}, ignoredOf(s))
	require.Zero(t, s.own)
}

func repeated(times int, one []byte) (out []byte) {
	for range times {
		out = append(out, one...)
	}
	return out
}

// ignoredOf returns the reasons for which there are messages.
func ignoredOf(s *session) map[string]uint64 {
	out := make(map[string]uint64)
	r := Reader{}
	r.ignored.tooLarge.Store(s.ignored.tooLarge.Load())
	r.ignored.tooMany.Store(s.ignored.tooMany.Load())
	r.ignored.foreign.Store(s.ignored.foreign.Load())
	r.ignored.notTransactional.Store(s.ignored.notTransactional.Load())
	for reason, n := range r.IgnoredMessages() {
		if n > 0 {
			out[reason] = n
		}
	}
	return out
}

// feedAll has a session read a stream as it comes from a connection.
func feedAll(t *testing.T, s *session, stream []byte) {
	t.Helper()
	client, server := pipeTCP(t)
	rc := newReceiver(client, client)
	receiving := make(chan error, 1)
	go func() { receiving <- rc.run(context.Background()) }()
	go func() {
		_, _ = server.Write(stream)
		server.Close()
	}()
	require.NoError(t, s.feed(t.Context(), rc))
	require.ErrorContains(t, <-receiving, "closed the replication connection")
}

// TestSavepointsKeepTheirOwn: what a savepoint that was rolled back had is not carried out, and what is kept of
// one transaction has a bound however many savepoints it has.
func TestSavepointsKeepTheirOwn(t *testing.T) {
	s := newSession(&calls{})
	var gaps []announcement
	s.gap = func(_ context.Context, _ *cdc.Txn, a announcement) (cdc.TableGap, error) {
		gaps = append(gaps, a)
		return cdc.TableGap{}, nil
	}
	stream := blockStart(7)
	for sub := range uint32(10_000) {
		stream = append(stream, blockMessage(8+sub, tablesPrefix, fmt.Sprintf(`{"publication":"p","nonce":"secret","tables":[{"Schema":"s","Name":"t%d"}]}`, sub))...)
	}
	stream = join(stream, blockStop(), rollback(7, 8))
	require.NoError(t, s.gulp(t.Context(), stream))
	require.Len(t, s.streams[7].own.kept, maxOwnMessages-1)
	require.NoError(t, s.gulp(t.Context(), streamCommit(7, 190)))
	require.Len(t, gaps, maxOwnMessages-1)
	require.Equal(t, "t1", gaps[0].Tables[0].Name)
	require.Equal(t, map[string]uint64{ownTooMany: 10_000 - maxOwnMessages}, ignoredOf(s))
}

// TestLongAnnouncementsAreSplit: an announcement of many tables becomes messages that are believed.
func TestLongAnnouncementsAreSplit(t *testing.T) {
	var a announcement
	a.Publication, a.Nonce, a.Causes = "p", "secret", []cdc.TableCause{cdc.TablePublished}
	for i := range 5000 {
		a.Tables = append(a.Tables, cdc.Table{Schema: strings.Repeat("\x01", 63), Name: fmt.Sprintf("<%d>", i)})
	}
	var tables []cdc.Table
	for _, part := range a.parts() {
		require.LessOrEqual(t, len(encode(part)), maxTablesMessage)
		require.Equal(t, a.Causes, part.Causes)
		require.Equal(t, "secret", part.Nonce)
		tables = append(tables, part.Tables...)
	}
	require.Equal(t, a.Tables, tables)
}

// TestOnlyHeardMessagesAreConverted: the server is asked to convert what a rule reads, and nothing else.
func TestOnlyHeardMessagesAreConverted(t *testing.T) {
	for _, c := range []struct {
		handler Handler
		asks    int
	}{{&deaf{}, 0}, {&calls{}, 1}} {
		s, asks := newSession(c.handler), 0
		s.text = &text{server: "LATIN1", convert: func(_ context.Context, b []byte) ([]byte, error) { asks++; return b, nil }}
		require.NoError(t, s.gulp(t.Context(), join(begin(190, 7), message(1, "other", "\xe4"), message(1, heartbeatPrefix, "\xe4"), commit(190))))
		require.Equal(t, c.asks, asks)
	}
}

// FuzzOwnMessages: no sequence of messages makes a session keep more than the bounds allow, or carry out what
// has no nonce.
func FuzzOwnMessages(f *testing.F) {
	f.Add(uint64(1), []byte("99"))
	f.Add(uint64(2), []byte(`{"publication":"p"}`))
	f.Add(uint64(3), []byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, seed uint64, content []byte) {
		content = bytes.ReplaceAll(content, []byte("secret"), nil)
		random := rand.New(rand.NewPCG(seed, 1))
		s := newSession(&calls{})
		s.gap = func(_ context.Context, _ *cdc.Txn, a announcement) (cdc.TableGap, error) {
			require.Equal(t, announcement{Publication: "p"}, a)
			return cdc.TableGap{}, nil
		}
		prefixes := []string{heartbeatPrefix, tablesPrefix, "walpurge.x", "other", ""}
		open := false
		var stream []byte
		for range random.IntN(400) {
			prefix := prefixes[random.IntN(len(prefixes))]
			body := content[:random.IntN(len(content)+1)]
			switch n := random.IntN(20); {
			case !open:
				stream, open = append(stream, blockStart(7)...), true
			case n == 0:
				stream, open = append(stream, blockStop()...), false
			case n == 1:
				stream, open = join(stream, blockStop(), rollback(7, 8+uint32(random.IntN(9)))), false
			default:
				stream = append(stream, blockMessage(8+uint32(random.IntN(9)), prefix, string(body))...)
			}
		}
		require.NoError(t, s.gulp(t.Context(), stream))
		for _, tx := range s.streams {
			require.Empty(t, tx.own.kept)
		}
		require.True(t, s.beat.lastSeen.IsZero())
		if open {
			require.NoError(t, s.gulp(t.Context(), blockStop()))
		}
		if len(stream) > 0 && binary.BigEndian.Uint32(stream[1:]) > 0 {
			require.NoError(t, s.gulp(t.Context(), streamCommit(7, 190)))
		}
	})
}
