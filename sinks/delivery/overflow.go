package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
)

// Overflow bounds what a lane may leave in the stream.
type Overflow struct {
	// MaxBacklog is the lane's share in bytes; 0: there is no bound.
	MaxBacklog int64
	// Stop holds the lane when it is past its share, instead of trading its backlog.
	Stop bool
	// Pressing reports that the stream is all but full, and that what this lane has
	// not acknowledged is what keeps it so: the lane is then past its share, whatever
	// that is. It returns the lane's floor, too. Nil: that is let happen, and the
	// reader waits.
	Pressing func(ctx context.Context) (floor uint64, pressing bool, err error)
	// Backlog is about how many bytes the lane has not acknowledged.
	Backlog func(ctx context.Context) (int64, error)
	// StoreFlush puts a flush behind all that the lane has in the stream, durably, and
	// writes down that it replaces all of that. It returns its sequence.
	StoreFlush func(ctx context.Context) (uint64, error)
	// PendingFlush is the newest such flush of an earlier run, 0 if it is done.
	PendingFlush uint64
}

// lookEvery is the time between two looks at the backlog.
const lookEvery = time.Second

// watch looks at the backlog until the context ends.
func (l *Lane) watch(ctx context.Context) {
	o := l.cfg.Overflow
	// known is what of the backlog was answered already, answered the floor at that
	// time.
	known, answered := int64(0), uint64(0)
	for {
		select {
		case <-beat.After(lookEvery):
		case <-ctx.Done():
			return
		}
		backlog, err := o.Backlog(ctx)
		if err != nil {
			l.cfg.Logger.Debug("read the backlog", "err", err)
			continue
		}
		known = min(known, backlog)
		past := o.MaxBacklog > 0 && backlog-known > o.MaxBacklog
		if !past && o.Pressing != nil {
			floor, pressing, err := o.Pressing(ctx)
			if err != nil {
				l.cfg.Logger.Debug("look how full the stream is", "err", err)
			}
			// Until the floor moves, the trade before has not had its effect.
			if past = pressing && (answered == 0 || floor >= answered); past {
				answered = floor + 1
			}
		}
		if !past {
			continue
		}
		if o.Stop {
			l.halt(fmt.Errorf("the backlog of about %d bytes exceeds max_backlog, %d: walpurge resume --sink %s purges it after all; "+
				"walpurge purge --sink %s --all --supersede before that trades it for a flush", backlog, o.MaxBacklog, l.cfg.Name, l.cfg.Name))
			known = backlog
			continue
		}
		seq, err := o.StoreFlush(ctx)
		if err != nil {
			l.conditions.At(overShare).Observe("err", err, "attempts", condition.Sum(1))
			answered = 0
			continue
		}
		l.conditions.At(overShare).End()
		known = backlog
		l.conditions.At(overflows).Observe("bytes", backlog, "max_backlog", o.MaxBacklog, "seq", seq, "flushes", condition.Sum(1))
		l.trade(seq)
	}
}

// trade makes a flush replace every message before it. No watermark moves
// until that is done.
func (l *Lane) trade(seq uint64) {
	l.mu.Lock()
	l.machine.Trade(seq)
	l.signal()
	l.mu.Unlock()
	l.trades.next()
	l.poke()
}

// errReplaced says that a flush may replace a message now, so that it need not
// wait for its gates.
var errReplaced = errors.New("a flush replaces the backlog")

// trades tells those who wait for a gate of the next trade.
type trades struct {
	mu   sync.Mutex
	ctx  context.Context
	made context.CancelFunc
}

// until is done at the next trade.
func (t *trades) until() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx == nil {
		t.ctx, t.made = context.WithCancel(context.Background())
	}
	return t.ctx
}

func (t *trades) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made != nil {
		t.made()
		t.ctx = nil
	}
}
