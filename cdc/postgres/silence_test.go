package postgres

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// slow is a handler that takes a message and does not return before it is released.
type slow struct {
	calls
	release chan struct{}
}

func (h *slow) Message(ctx context.Context, tx *cdc.Txn, prefix string, content []byte) error {
	<-h.release
	return h.calls.Message(ctx, tx, prefix, content)
}

// offline returns a reader whose heartbeat reaches nothing: a refusal by port 1 takes no time
// on the fake clock.
func offline(url string, board *watermark.Board) *Reader {
	return NewReader(Config{URL: url, Slot: "s", Publication: "p"}, Options{
		Board: board, Confirm: watermark.ConfirmSynced, StopGrace: 5 * time.Second, Logger: slog.New(slog.DiscardHandler), Watch: func() Watch { return Watch{} },
	})
}

// A handler that blocks does not cost the connection, since the server would send everything
// again: it hears of us more than twice within wal_sender_timeout.
func TestHandlerBlocksLongerThanTheServerWaits(t *testing.T) {
	limit, err := time.ParseDuration(senderTimeout)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		h := &slow{release: make(chan struct{})}
		s := newSession(h)
		s.conn = client
		r := offline("postgres://walpurge@127.0.0.1:1/shop?sslmode=disable", s.board)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.stream(ctx, s, newReceiver(client, client), nil) }()

		// The server writes when the reader reads, and answers its updates.
		output := make(chan []byte, 1)
		output <- join(begin(190, 7), message(1, "cache.purge", "{}"), commit(190), keepalive(300, 1))
		heard := []time.Time{time.Now()}
		var at sync.WaitGroup
		at.Go(func() {
			for b := range output {
				_, _ = server.Write(b)
			}
		})
		at.Go(func() {
			defer close(output)
			var update [39]byte
			for {
				if _, err := io.ReadFull(server, update[:]); err != nil {
					return
				}
				heard = append(heard, time.Now())
				select {
				case output <- keepalive(300, 0):
				default:
				}
			}
		})
		time.Sleep(10 * time.Minute)
		require.Empty(t, h.said)
		close(h.release)
		synctest.Wait()
		require.Equal(t, []string{"message cache.purge {} in 7", "commit"}, h.said)
		s.board.Advance(watermark.Mark{Stage: watermark.Synced}, s.committed())
		stop()
		require.NoError(t, <-ended, "in one session")
		client.Close()
		at.Wait()
		for i, at := range slices.Backward(heard) {
			if i > 0 {
				require.Less(t, at.Sub(heard[i-1]), limit/2)
			}
		}
		require.Greater(t, len(heard), int(10*time.Minute/limit))
	})
}

// TestSessionEndsWithItsServer: a server that shuts down takes no new connection, and waits
// for the replication connection. The reader ends that one a second after the shutdown began.
func TestSessionEndsWithItsServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	// The server shuts down at the first query of the first connection.
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := pgproto3.NewBackend(conn, conn)
			_, _ = b.ReceiveStartupMessage()
			code := "57P03"
			if n == 0 {
				b.Send(&pgproto3.AuthenticationOk{})
				b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				_ = b.Flush()
				_, _ = b.Receive()
				code = "57P01"
			}
			b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "the database system is shutting down"})
			_ = b.Flush()
			conn.Close()
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		r := offline("postgres://walpurge@"+l.Addr().String()+"/shop?sslmode=disable", watermark.NewBoard())
		began := time.Now()
		require.ErrorIs(t, r.beat.run(t.Context(), cdc.Position{}), errServerEnding)
		require.Equal(t, lookPause, time.Since(began))
	})
}
