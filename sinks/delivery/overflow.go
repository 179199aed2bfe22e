package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
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
	l.tracker.hold(seq)
	l.traded.Store(seq)
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

// replacesBacklog reports whether a batch is a flush that replaces all that its lane had in the stream
// before it.
func replacesBacklog(b *invalidation.Batch) bool {
	return b.Flush && b.Reason == invalidation.FlushOverflow
}

// skips reports whether a flush that has not begun replaces the message.
func (l *Lane) skips(m invalidation.Message) bool {
	return m.Seq < l.traded.Load() && l.begun.Load() < l.traded.Load()
}

// spare gives up the messages of a group that a flush replaces, before that
// may keep the others waiting, and returns those.
func (l *Lane) spare(group []ready) []ready {
	var rest, skipped []ready
	for _, r := range group {
		if r.skipped = l.skips(r.msg); r.skipped {
			skipped = append(skipped, r)
		} else {
			rest = append(rest, r)
		}
	}
	if len(skipped) > 0 {
		l.finish(skipped, nil)
	}
	return rest
}

// overflown reports whether a flush that has not begun replaces all of a turn,
// so that it need not be carried out.
func (l *Lane) overflown(t *turn) bool {
	if l.begun.Load() >= l.traded.Load() {
		return false
	}
	if t.second && l.newest >= l.traded.Load() {
		return false
	}
	for _, r := range t.group {
		if !l.skips(r.msg) {
			return false
		}
	}
	return true
}

// beginning notes that the flush of a message begins. One that runs early is followed by
// another behind open gates, which replaces the backlog as before.
func (l *Lane) beginning(r ready) {
	if b := r.msg.Batch; b != nil && b.Flush && r.final {
		l.begun.Store(max(l.begun.Load(), r.msg.Seq))
	}
}

// halt holds the lane until it is resumed on request.
func (l *Lane) halt(why error) {
	l.mu.Lock()
	l.halted = why
	l.mu.Unlock()
	l.enter(Blocked, why)
	l.conditions.At(stopped).Observe("err", why)
	l.poke()
}

// poke makes the lane's goroutine look again at what it waits for.
func (l *Lane) poke() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// hold keeps claims back until a message was purged, which it may have been already: who
// put it into the stream says so after the lane could read it.
func (t *tracker) hold(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq <= t.passed {
		return
	}
	t.held = max(t.held, seq)
	if t.lifted == nil {
		t.lifted = make(chan struct{})
	}
}

// holding returns what is closed when claims are not held back any more, nil if
// they are not.
func (t *tracker) holding() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lifted
}
