package delivery

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// maxEarly bounds the messages that were purged early and wait for their
// gates; past it the lane reads no further.
const maxEarly = 1024

// keep reads messages and hands each over when its gates are open, in order; or
// early when they stay closed, and then once more when they open.
func (l *Lane) keep(ctx context.Context, turn chan<- machine.Ready) {
	waits := make(chan struct{}, maxEarly)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		if !l.room.await(ctx) {
			return
		}
		m, err := l.cfg.Source.Next(ctx)
		if err != nil {
			return
		}
		r, again := l.add(m)
		if again {
			continue
		}
		asked := time.Now()
		err = l.gates(ctx, m, m.Unknown == nil)
		l.span(m.Batch, "gates", asked)
		if err == nil || errors.Is(err, errReplaced) {
			l.pass(ctx, turn, r)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		waits <- struct{}{}
		// A flush that another lane spreads or holds back is not run ahead of.
		if !errors.Is(err, ErrFlushHeldBack) {
			early := r
			early.Final = false
			l.pass(ctx, turn, early)
		}
		waiting.Go(func() {
			defer func() {
				<-waits
				for gate := range l.cfg.Gates {
					if ctx.Err() == nil {
						l.passed(gate, m)
					}
				}
			}()
			if err := l.gates(ctx, m, false); err == nil || errors.Is(err, errReplaced) {
				l.pass(ctx, turn, r)
			}
		})
	}
}

func (l *Lane) pass(ctx context.Context, turn chan<- machine.Ready, r machine.Ready) {
	if !l.queue.acquire(ctx, r.Size()) {
		return
	}
	select {
	case turn <- r:
	case <-ctx.Done():
	}
}

// errEarly says that a gate stayed closed for longer than the patience with it.
var errEarly = errors.New("the gate is still closed")

// gates waits for every gate of a message and returns nil when all have opened, or
// errReplaced when a flush replaces the message. It waits for ever unless its
// patience is bounded. Then a gate that stays closed does not end the wait for the others: what the
// message is purged ahead of is that gate alone.
func (l *Lane) gates(ctx context.Context, m invalidation.Message, bounded bool) error {
	if m.Batch == nil || m.Batch.Origin == invalidation.FromHand {
		return nil
	}
	var early error
	var began time.Time
	timedOut := ""
	for i := range l.cfg.Gates {
		gate, metrics := &l.cfg.Gates[i], &l.metrics.gates[i]
		if failpoint.On("visible_gate_ignored") && gate.Name == "visible" ||
			failpoint.On("after_gate_ignored") && gate.Name != "visible" {
			continue
		}
		if i == 0 || l.cfg.Gates[i-1].Name != gate.Name {
			began = time.Now()
		}
		err := errReplaced
		for errors.Is(err, errReplaced) {
			if gate.Ordered && l.skips(m) {
				metrics.waited.Observe(time.Since(began).Seconds())
				if early != nil {
					return early // the gates before this one are not open, and the flush does not say so of them
				}
				return errReplaced
			}
			err = l.wait(ctx, i, m, bounded, early != nil)
		}
		if errors.Is(err, errEarly) && ctx.Err() == nil && timedOut != gate.Name {
			timedOut = gate.Name
			metrics.timeouts.Inc()
		}
		if i+1 == len(l.cfg.Gates) || l.cfg.Gates[i+1].Name != gate.Name || ctx.Err() != nil {
			metrics.waited.Observe(time.Since(began).Seconds())
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return err
		case early == nil || errors.Is(err, ErrPutOff) && !errors.Is(early, ErrFlushHeldBack):
			early = err
		}
	}
	return early
}

// slowGate is how long a gate may stay closed before the lane counts as gated.
const slowGate = time.Second

// shortWait is what is left of the patience with a gate that has used it up.
const shortWait = 100 * time.Millisecond

// patience is how long to wait for a gate. It is counted from when the gate was
// first found closed: a backlog behind it must not wait once for each message.
// Gates of one name are asked one after the other, and the patience with all that follow begins with the first.
func (l *Lane) patience(gate int) time.Duration {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	for i := gate; i < len(l.cfg.Gates) && l.cfg.Gates[i].Name == l.cfg.Gates[gate].Name; i++ {
		if l.display.shut[i].IsZero() {
			l.display.shut[i] = time.Now()
		}
	}
	return max(min(shortWait, l.cfg.MaxWait), l.cfg.MaxWait-time.Since(l.display.shut[gate]))
}

func (l *Lane) opened(gate int) {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	l.display.shut[gate] = time.Time{}
}

func (l *Lane) wait(ctx context.Context, i int, m invalidation.Message, bounded, early bool) error {
	gate := &l.cfg.Gates[i]
	began := time.Now()
	slow := time.AfterFunc(slowGate, func() { l.waits(i, 1) })
	defer func() {
		if !slow.Stop() {
			l.waits(i, -1)
		}
	}()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	if bounded {
		var end context.CancelFunc
		waiting, end = context.WithTimeout(waiting, l.patience(i))
		defer end()
	}
	trade := context.Background()
	if gate.Ordered {
		trade = l.trades.until()
		defer context.AfterFunc(trade, cancel)()
	}
	open := gate.Wait
	switch {
	case bounded && early && gate.Early != nil:
		open = gate.Early
	case bounded && gate.Brief != nil:
		open = gate.Brief
	}
	err := open(waiting, m)
	if errors.Is(err, ErrPurgedEarly) {
		l.opened(i)
		return err
	}
	if err == nil || errors.Is(err, ErrPutOff) {
		l.opened(i)
		l.passed(i, m)
		return err
	}
	if ctx.Err() == nil && trade.Err() != nil {
		return errReplaced
	}
	if ctx.Err() == nil {
		l.purgedEarly(i, m, time.Since(began))
	}
	return errEarly
}

// skips reports whether a flush that has not begun replaces the message.
func (l *Lane) skips(m invalidation.Message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machine.Skips(m)
}
