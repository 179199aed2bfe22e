package postgres

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// endless is a handler that does not return from a commit before release is closed, whatever its context says.
type endless struct {
	calls
	entered, release chan struct{}
}

func (e *endless) Commit(context.Context, *cdc.Txn) error {
	close(e.entered)
	<-e.release
	return nil
}

// TestStopOfAStuckReader: a stop, and a connection that fails, end a reader whose handler does not return, and no
// other session begins beside it.
func TestStopOfAStuckReader(t *testing.T) {
	for _, how := range []string{"stop", "lost connection"} {
		synctest.Test(t, func(t *testing.T) {
			server, client := net.Pipe()
			h := &endless{entered: make(chan struct{}), release: make(chan struct{})}
			s := newSession(h)
			s.conn = client
			r := offline("postgres://walpurge@127.0.0.1:1/shop?sslmode=disable", s.board)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan error, 1)
			go func() {
				ended <- r.stream(ctx, s, newReceiver(client, client), nil)
				client.Close()
			}()
			go func() { _, _ = server.Write(join(begin(190, 7), commit(190))) }()
			go func() {
				b := make([]byte, 64)
				for {
					if _, err := server.Read(b); err != nil {
						return
					}
				}
			}()
			<-h.entered
			time.Sleep(time.Minute / 2)
			asked := time.Now()
			if how == "stop" {
				stop()
			} else {
				server.Close()
			}
			err := <-ended
			require.ErrorIs(t, err, errStuck)
			var halt *cdc.Halt
			require.ErrorAs(t, err, &halt)
			require.LessOrEqual(t, time.Since(asked), r.opts.StopGrace+stuckGrace+time.Second)
			close(h.release)
			server.Close()
		})
	}
}
