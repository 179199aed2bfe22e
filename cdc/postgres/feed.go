package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// Behind a backlog the handler does not rest after every gulp: each rest costs
// a message to every sink and a claim, whatever they carry.
const (
	// lingerBytes is after how much it rests in any case.
	lingerBytes = 512 << 10
	// linger is how long it waits for the next gulp before it rests.
	linger = 2 * time.Millisecond
)

// feed hands over what the receiver brings until that ends. It rests after every
// gulp on a line that keeps up, so that a change is handed on at once.
func (s *session) feed(ctx context.Context, rc *receiver) error {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	held := 0
	var waited time.Duration
	for {
		var due <-chan time.Time
		if held > 0 {
			timer.Reset(linger)
			due = timer.C
		}
		began := time.Now()
		select {
		case g, more := <-rc.gulps:
			waited += time.Since(began)
			if !more {
				return s.pause(ctx)
			}
			failpoint.Crash("received")
			switch {
			case g.large != nil:
				if err := s.handOverLarge(ctx, g.large, s.walHead); err != nil && !errors.Is(err, errStopped) {
					return err
				}
				held += largeMessage
			default:
				if err := s.handOver(ctx, g.whole); err != nil {
					return err
				}
				held += len(g.whole)
				rc.recycle(g.whole)
			}
			rc.pace.judge(s.age())
			if rc.pace.late.Load() && held < lingerBytes && !s.rest.Urgent {
				continue
			}
		case <-due:
			waited += time.Since(began)
		}
		held = 0
		if err := s.pause(ctx); err != nil {
			return err
		}
		if err := s.confirmInTurn(); err != nil {
			return err
		}
		if s.fallsBehind(waited) {
			return errBehind
		}
		waited = 0
	}
}

// errBehind ends a session that stays behind, so that the next one reads the backlog through SQL.
var errBehind = errors.New("the stream stays behind, reading the backlog through SQL")

// fallsBehind reports whether the session has been behind for long although the handler has not kept it waiting. The
// server would send again what is open of streamed transactions.
func (s *session) fallsBehind(waited time.Duration) bool {
	if s.behind == nil || len(s.streams) > 0 || s.open || s.last < s.streamUntil || s.turn.step != turnNone {
		return false
	}
	return s.behind.Note(time.Now(), s.board.LagBytes(watermark.Mark{Stage: watermark.Received}), uint64(s.beat.restartLag()), waited)
}

// age is how old the newest commit was when the server sent it. Nobody waits for what has
// not committed: it counts as if it were late already.
func (s *session) age() time.Duration {
	const epoch = 946684800_000_000 // 2000-01-01 in Unix microseconds
	switch {
	case s.tx.Streamed && s.open:
		return 2 * lateAfter
	case s.tx.Time.IsZero():
		return 0
	}
	return time.Duration(s.sent+epoch-s.tx.Time.UnixMicro()) * time.Microsecond
}
