package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// purge is what a lane said it has purged for one transaction.
type purge struct {
	sink   string
	values []string
	// took is the time from the commit, by the server's clock, to the answer of
	// the cache, as seen by a listener.
	took time.Duration
}

// watcher listens to the purged subject and sorts what it hears by transaction.
type watcher struct {
	mu     sync.Mutex
	heard  map[uint64][]purge
	signal chan struct{}
}

func watch(nc *nats.Conn, pipeline string) (*watcher, error) {
	w := &watcher{heard: make(map[uint64][]purge), signal: make(chan struct{})}
	_, err := nc.Subscribe(stream.PurgedSubject(pipeline, "*"), func(m *nats.Msg) {
		now := time.Now()
		b, err := invalidation.Decode(m.Data)
		if err != nil {
			return
		}
		p := purge{sink: b.Sink, took: now.Sub(b.Stamp.FirstCommit)}
		for _, inv := range b.Invalidations(nil) {
			if inv.Kind == invalidation.Key || inv.Kind == invalidation.Tag {
				p.values = append(p.values, inv.Value)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, xid := range b.Stamp.XIDs {
			w.heard[xid] = append(w.heard[xid], p)
		}
		close(w.signal)
		w.signal = make(chan struct{})
	})
	if err != nil {
		return nil, fmt.Errorf("listen to purges: %w", err)
	}
	return w, nc.Flush()
}

// wait returns what was purged for a transaction once every sink has spoken.
func (w *watcher) wait(ctx context.Context, xid uint64, sinks []string) ([]purge, error) {
	for {
		w.mu.Lock()
		heard, signal := w.heard[xid], w.signal
		w.mu.Unlock()
		missing := slices.DeleteFunc(slices.Clone(sinks), func(s string) bool {
			return slices.ContainsFunc(heard, func(p purge) bool { return p.sink == s })
		})
		if len(missing) == 0 {
			w.mu.Lock()
			delete(w.heard, xid)
			w.mu.Unlock()
			return heard, nil
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return heard, fmt.Errorf("no purge heard from %v: %w", missing, ctx.Err())
		}
	}
}
