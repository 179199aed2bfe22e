package postgres

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

func u32(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func blockStart(xid uint32) []byte { return wal(append(u32([]byte{'S'}, xid), 1)...) }

func blockStop() []byte { return wal('E') }

func rollback(xid, sub uint32) []byte { return wal(u32([]byte{'A'}, xid, sub)...) }

func streamCommit(xid uint32, lsn uint64) []byte {
	b := binary.BigEndian.AppendUint64(append(u32([]byte{'c'}, xid), 0), lsn)
	b = binary.BigEndian.AppendUint64(b, lsn+10)
	return wal(append(b, make([]byte, 8)...)...)
}

// blockMessage is a message inside a block.
func blockMessage(sub uint32, prefix, content string) []byte {
	b := append(u32([]byte{'M'}, sub), 1)
	b = append(append(append(b, make([]byte, 8)...), prefix...), 0)
	return wal(append(u32(b, uint32(len(content))), content...)...)
}

func TestBlocks(t *testing.T) {
	announced := encode(announcement{Publication: "p", Tables: []cdc.Table{{Schema: "public", Name: "t"}}, Nonce: "secret"})
	for _, c := range []struct {
		name     string
		gulp     []byte
		said     []string
		idle     cdc.LSN
		received cdc.LSN
		beats    bool
	}{
		{"an open block hides the log's end", join(blockStart(7), keepalive(300, 0)), nil, 0, 0, false},
		{"between blocks nothing is open that a whole transaction waits for", join(blockStart(7), blockStop(), keepalive(300, 0)), nil, 300, 300, false},
		{"committed", join(blockStart(7), blockMessage(7, "cache.purge", "{}"), blockStop(), streamCommit(7, 190)),
			[]string{"message cache.purge {} in 7", "commit"}, 0, 200, false},
		{"a whole one between two blocks", join(blockStart(7), blockStop(), begin(150, 8), commit(150), blockStart(7), blockMessage(7, "p", ""), blockStop(), streamCommit(7, 190)),
			[]string{"commit", "message p  in 7", "commit"}, 0, 200, false},
		{"rolled back", join(blockStart(7), blockStop(), rollback(7, 9), rollback(7, 7)), []string{"abort 9 in 7", "abort 7 in 7"}, 0, 0, false},
		{"our messages wait for the end", join(blockStart(7), blockMessage(7, heartbeatPrefix, "5 secret"), blockMessage(7, tablesPrefix, announced), blockMessage(7, tablesPrefix, announced), blockStop()), nil, 0, 0, false},
		{"and then count, each once", join(blockStart(7), blockMessage(7, heartbeatPrefix, "5 secret"), blockMessage(7, tablesPrefix, announced), blockMessage(7, tablesPrefix, announced), blockStop(), streamCommit(7, 190)),
			[]string{"gap of [public.t] in 7", "commit"}, 0, 200, true},
		{"but not what was rolled back", join(blockStart(7), blockMessage(9, tablesPrefix, announced), blockMessage(9, heartbeatPrefix, "5 secret"), blockStop(), rollback(7, 9), streamCommit(7, 190)),
			[]string{"abort 9 in 7", "commit"}, 0, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &calls{}
			s := newSession(h)
			s.gap = func(_ context.Context, tx *cdc.Txn, a announcement) (cdc.TableGap, error) {
				require.Equal(t, cdc.LSN(190), tx.Commit)
				return cdc.TableGap{Tables: a.Tables}, nil
			}
			require.NoError(t, s.gulp(t.Context(), c.gulp))
			require.Equal(t, c.said, h.said)
			require.Equal(t, c.idle, h.rest.Idle)
			require.Equal(t, c.received, s.board.Get(watermark.Mark{Stage: watermark.Received}).LSN)
			require.Equal(t, c.beats, !s.beat.lastSeen.IsZero())
		})
	}
}

// TestNobodyWaitsForABlock: only what has committed can be late.
func TestNobodyWaitsForABlock(t *testing.T) {
	s := newSession(&calls{})
	require.NoError(t, s.gulp(t.Context(), blockStart(7)))
	require.Greater(t, s.age(), lateAfter)
	require.NoError(t, s.gulp(t.Context(), blockStop()))
	require.Zero(t, s.age())
}

// TestReadOnceItHasEnded: after an error in decoding, what was in the log by then is read
// without what has not ended; and later is not.
func TestReadOnceItHasEnded(t *testing.T) {
	var w whole
	session := func(start, end cdc.LSN) cdc.Session { return cdc.Session{Start: cdc.Position{LSN: start}, End: end} }
	require.False(t, w.until(session(100, 500)))
	w.next = true
	require.True(t, w.until(session(100, 600)))
	require.True(t, w.until(session(599, 900)), "the end of the first session after it counts")
	require.False(t, w.until(session(600, 900)))

}
