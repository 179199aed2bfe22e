package postgres

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// reported is what one status update says of the three positions.
func reported(t *testing.T, board *watermark.Board, start cdc.Position) (written, flushed, applied uint64) {
	t.Helper()
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	r := &reporter{conn: client, board: board, policy: watermark.ConfirmSynced, start: start, names: newSyncNames(nil)}
	sent := make(chan error, 1)
	go func() { sent <- r.send(false) }()
	var b [39]byte
	_, err := io.ReadFull(server, b[:])
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.Equal(t, "d\x00\x00\x00\x26r", string(b[:6]))
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[6+8*i:]) }
	return at(0), at(1), at(2)
}

// The server may forget what lies below the flush position, and ends a fast stop
// when that is all that it has sent. So all three positions are the same, and
// that is on disk.
func TestStatusUpdate(t *testing.T) {
	board := watermark.NewBoard()
	at := func(lsn cdc.LSN) cdc.Position { return cdc.Position{SystemID: "1", Timeline: 1, LSN: lsn} }
	board.Advance(watermark.Mark{Stage: watermark.Received}, at(400))
	board.Advance(watermark.Mark{Stage: watermark.Published}, at(300))
	board.Advance(watermark.Mark{Stage: watermark.Synced}, at(200))
	w, f, a := reported(t, board, at(100))
	require.Equal(t, []uint64{200, 200, 200}, []uint64{w, f, a})
	require.Equal(t, at(200), board.Get(watermark.Mark{Stage: watermark.Confirmed}))
	w, f, a = reported(t, board, at(250))
	require.Equal(t, []uint64{250, 250, 250}, []uint64{w, f, a}, "never before the session's start")
}

// A keepalive says how far the server has read, which is no sign that what it
// sent before is in the stream.
func TestKeepaliveConfirmsNothingByItself(t *testing.T) {
	h := &calls{}
	s := newSession(h)
	require.NoError(t, s.gulp(t.Context(), join(begin(190, 7), commit(190), keepalive(300, 1))))
	require.Equal(t, cdc.LSN(300), h.rest.Idle, "the handler claims it once all before it is in the stream")
	_, flushed, _ := reported(t, s.board, s.start.Start)
	require.EqualValues(t, 100, flushed)
}
