package postgres

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// rests counts how often a session rested.
type rests struct {
	calls
	n    int
	rest chan cdc.Rest
}

func (r *rests) Rest(_ context.Context, rest cdc.Rest) error {
	r.n++
	if r.rest != nil {
		r.rest <- rest
	}
	return nil
}

// aged is a transaction that was sent so long after it was committed.
func aged(lsn uint64, age time.Duration) []byte {
	b := join(begin(lsn, 7), commit(lsn))
	// Every message is framed by five bytes; its clock lies 17 bytes into the rest.
	for at := 0; at < len(b); at += 1 + int(binary.BigEndian.Uint32(b[at+1:])) {
		binary.BigEndian.PutUint64(b[at+5+17:], uint64(age.Microseconds()))
	}
	return b
}

func fed(t *testing.T, h Handler, gulps ...[]byte) *receiver {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	rc := newReceiver(client, client)
	for _, g := range gulps {
		rc.gulps <- gulp{whole: append(<-rc.free, g...)}
	}
	close(rc.gulps)
	require.NoError(t, newSession(h).feed(t.Context(), rc))
	return rc
}

func TestFeedRestsAfterEveryGulpOnALineThatKeepsUp(t *testing.T) {
	h := &rests{}
	rc := fed(t, h, aged(190, 0), aged(290, lateAfter), aged(390, 0))
	require.Equal(t, 3+1, h.n, "and at the end")
	require.Len(t, h.said, 3)
	require.False(t, rc.pace.late.Load())
	require.NoError(t, rc.pace.rest(t.Context()))
}

func TestFeedGathersBehindABacklog(t *testing.T) {
	h := &rests{}
	rc := fed(t, h, aged(190, time.Minute), aged(290, time.Minute), aged(390, time.Minute))
	require.Equal(t, 1, h.n)
	require.Len(t, h.said, 3)
	require.True(t, rc.pace.late.Load())
}

func TestFeedAnswersAServerThatAsks(t *testing.T) {
	h := &rests{}
	fed(t, h, join(aged(190, time.Minute), keepalive(300, 1)), aged(390, time.Minute))
	require.Equal(t, 2, h.n)
}

// What is held back is handed on though nothing follows.
func TestFeedDoesNotHoldBackForLong(t *testing.T) {
	h := &rests{rest: make(chan cdc.Rest, 8)}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	rc := newReceiver(client, client)
	done := make(chan error, 1)
	go func() { done <- newSession(h).feed(t.Context(), rc) }()
	rc.gulps <- gulp{whole: append(<-rc.free, aged(190, time.Minute)...)}
	select {
	case <-h.rest:
	case <-time.After(30 * time.Second):
		t.Fatal("the session did not rest")
	}
	close(rc.gulps)
	require.NoError(t, <-done)
}

// pipeTCP is a connection within this machine, and its other end.
func pipeTCP(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// After a nap little is as good as much: the kernel must not go on waiting.
func TestNapLeavesTheConnectionAsItWas(t *testing.T) {
	client, server := pipeTCP(t)
	p := newPace(client)
	require.NotNil(t, p.raw)
	p.judge(time.Minute)
	for range 3 {
		require.NoError(t, p.rest(t.Context()), "nothing came")
		require.NoError(t, client.SetReadDeadline(time.Now().Add(30*time.Second)))
		go func() { _, _ = server.Write([]byte("x")) }()
		n, err := client.Read(make([]byte, 8))
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
}

func TestNapWithoutALowWaterMark(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	p := newPace(client)
	require.Nil(t, p.raw)
	p.judge(time.Minute)
	require.NoError(t, p.rest(t.Context()))
}
