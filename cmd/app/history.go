package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/sinks/delivery"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/valkey"
)

const (
	// lookPause is the time between two looks at a cache.
	lookPause = time.Second
	// firstLook bounds how long a lane waits for the first one before it purges.
	firstLook = 2 * time.Second
	// recordPause is how old a record may grow in which nothing changes but its time.
	recordPause = 10 * time.Second
)

// caches knows of each sink which cache it purges and whether that may hold again what was purged; see
// package history.
type caches struct {
	log     *slog.Logger
	stream  *stream.Stream
	changes *prometheus.CounterVec
	// incidents are those of the status.
	incidents *incidents
	of        []*cache // in the order of the lanes, which has inner sinks first

	// mu is held while something is purged again, which concerns outer sinks as well.
	mu sync.Mutex
}

// cache is that of one sink.
type cache struct {
	lane *lane
	log  *condition.Log
	// record is guarded by caches.mu; known: there is one.
	record history.Record
	known  bool
	stored time.Time
	// untold is why the sink's cache does not tell its history, empty if it does.
	untold atomic.Pointer[string]
}

var (
	purgesAgain   = condition.Text{Level: slog.LevelWarn, On: "the cache may hold again what was purged, that is purged again"}
	flushesAgain  = condition.Text{Level: slog.LevelWarn, On: "the cache may hold again what was purged, it is flushed"}
	cameBackEmpty = condition.Text{Level: slog.LevelInfo, On: "the cache has another history, nothing is to be purged again"}
	notAgain      = condition.Text{Level: slog.LevelWarn, On: "what the cache may hold again cannot be purged again yet", Off: "what the cache may hold again is purged again"}
	notTold       = condition.Text{Level: slog.LevelWarn, On: "the cache does not tell its history", Off: "the cache tells its history"}
	notRecorded   = condition.Text{Level: slog.LevelWarn, On: "the history of the cache is not recorded", Off: "the history of the cache is recorded again"}
)

// answerNone is the label of a change of history after which nothing is to be purged again.
const answerNone = "none"

func newCaches(a *App) *caches {
	c := &caches{log: a.log, stream: a.stream, incidents: &a.incidents, changes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "walpurge", Name: "history_changes_total", Help: "Times that a cache may have held again what was purged, by reason and by what was done.",
	}, []string{"sink", "reason", "answer"})}
	a.metrics.MustRegister(c.changes)
	for _, t := range a.targets {
		for _, reason := range history.Reasons() {
			for _, answer := range []string{string(history.Purge), string(history.Flush), answerNone} {
				c.changes.WithLabelValues(t.spec.Name, string(reason), answer)
			}
		}
	}
	return c
}

// add takes a lane, whose order is that of the file: inner sinks first.
func (c *caches) add(l *lane, log *slog.Logger) {
	l.cache = &cache{lane: l, log: condition.NewLog(log)}
	c.of = append(c.of, l.cache)
}

// recorded reads the record of a sink's cache, false if none can be read.
func (c *caches) recorded(ctx context.Context, sink string) (r history.Record, found bool, err error) {
	data, err := c.stream.History(ctx, sink)
	if err != nil || data == nil {
		return r, false, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return history.Record{}, false, nil // of a newer version
	}
	return r, true, nil
}

// run runs a lane, and looks once a second at its cache. The first look comes before the first purge, so
// that what is purged can be told from what was purged before.
func (c *caches) run(intake, work context.Context, l *lane) error {
	if l.spec.Shadow {
		return l.Run(intake, work)
	}
	one := l.cache
	defer one.log.Close()
	begin, cancel := context.WithTimeout(intake, firstLook)
	trusted := c.look(begin, one) == nil
	cancel()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for {
			select {
			case <-beat.After(lookPause):
			case <-intake.Done():
				return
			}
			if trusted && l.Nodes == nil {
				return // the ids of its provider change with the configuration only
			}
			if err := c.look(intake, one); err != nil {
				c.log.Debug("look at the cache", "sink", l.spec.Name, "err", err)
			} else {
				trusted = true
			}
		}
	})
	return l.Run(intake, work)
}

// look compares a cache with its record, has purged again what it may hold again, and records it.
func (c *caches) look(ctx context.Context, one *cache) error {
	sink := one.lane.spec.Name
	// What is purged by now is purged when the cache answers.
	floor := one.lane.consumer.Floor()
	manual, err := c.stream.ManualDone(ctx, sink)
	if err != nil {
		return err
	}
	nodes, err := one.ask(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !one.known
	if first {
		if err := c.load(ctx, one); err != nil {
			return err
		}
	}
	r := &one.record
	if d := history.Decide(r, one.lane.identity, nodes, now); !r.Seen.IsZero() && d.Answer != history.Same {
		err := c.again(ctx, one, d, manual)
		if err != nil {
			one.log.At(notAgain).Observe("err", err, "attempts", condition.Sum(1))
			return err
		}
		one.log.At(notAgain).End()
	}
	until := r.Until
	changed := r.Update(one.lane.identity, nodes, floor, manual, now)
	switch {
	case until > floor && first:
		one.lane.Distrust(delivery.Restoration{Reason: string(r.Reason), Since: r.Since})
		one.lane.Restore(until)
	case first:
		one.lane.Trust()
	}
	if changed || first || now.Sub(one.stored) > recordPause {
		if err := c.store(ctx, one); err != nil {
			one.log.At(notRecorded).Observe("err", err, "attempts", condition.Sum(1))
			return err
		}
		one.log.At(notRecorded).End()
	}
	return nil
}

// ask asks the nodes of a cache, none if it cannot tell.
func (one *cache) ask(ctx context.Context) ([]history.Node, error) {
	if one.lane.Nodes == nil {
		return nil, nil
	}
	nodes, err := one.lane.Nodes(ctx)
	if errors.Is(err, valkey.ErrNotTold) {
		why := err.Error()
		one.untold.Store(&why)
		one.log.At(notTold).Observe("err", err)
		return nil, nil
	}
	if err == nil && one.untold.Swap(nil) != nil {
		one.log.At(notTold).End()
	}
	return nodes, err
}

// load reads the record of a cache.
func (c *caches) load(ctx context.Context, one *cache) error {
	r, _, err := c.recorded(ctx, one.lane.spec.Name)
	if err != nil {
		return err
	}
	if created := c.stream.Created(); r.Stream != created {
		// Its floors say nothing of this stream, which is a gap in any case.
		r.Stream, r.Places, r.Until = created, nil, 0
	}
	for _, name := range []string{one.lane.spec.Name, one.lane.spec.Formerly} {
		if name != "" && !slices.Contains(r.Names, name) {
			r.Names = append(r.Names, name)
		}
	}
	one.record, one.known = r, true
	return nil
}

func (c *caches) store(ctx context.Context, one *cache) error {
	data, err := json.Marshal(&one.record)
	if err != nil {
		return err
	}
	if err := c.stream.StoreHistory(ctx, one.lane.spec.Name, data); err != nil {
		return err
	}
	one.stored = time.Now()
	return nil
}

// again stores what a cache may hold again behind all that its lane has in the stream, and does the same for
// sinks that are filled from this one. What the daemon had done when it was killed is done once more.
func (c *caches) again(ctx context.Context, one *cache, d history.Decision, manual uint64) error {
	all := c.filledFrom(one)
	for _, each := range all {
		each.lane.Distrust(delivery.Restoration{Reason: string(d.Reason), Since: d.Since})
	}
	done := make([]stream.Repeated, len(all))
	for i, each := range all {
		var err error
		done[i], err = c.stream.PurgeAgain(ctx, stream.Again{
			Sink: each.lane.spec.Name, Formerly: each.record.Names, Reason: string(d.Reason), After: d.After, Reach: d.Reach,
			UpTo:  max(each.lane.consumer.Floor(), each.lane.ReadUpTo()),
			Flush: d.Answer == history.Flush || manual > d.Manual || done[0].Flush,
		})
		if err != nil {
			return fmt.Errorf("sink %s: %w", each.lane.spec.Name, err)
		}
		if i == 0 && done[0].Seq == 0 {
			break
		}
	}
	now := time.Now()
	answer, text := string(history.Purge), purgesAgain
	switch {
	case done[0].Flush:
		answer, text = string(history.Flush), flushesAgain
	case done[0].Seq == 0:
		answer, text = answerNone, cameBackEmpty
	}
	one.record.Restart(d, done[0].Seq, now)
	for i, each := range all {
		if done[i].Seq == 0 {
			each.lane.Trust()
			continue
		}
		each.lane.Restore(done[i].Seq)
		if each != one && each.known {
			each.record.Until, each.record.Reason, each.record.Since = done[i].Seq, d.Reason, d.Since
			if err := c.store(ctx, each); err != nil {
				return err
			}
		}
	}
	c.changes.WithLabelValues(one.lane.spec.Name, string(d.Reason), answer).Inc()
	if answer != answerNone {
		c.incidents.add("history", one.lane.spec.Name, string(d.Reason))
	}
	one.log.At(text, "reason", string(d.Reason)).Observe("since", d.Since.UTC().Format(time.RFC3339), "values", condition.Sum(done[0].Values), "times", condition.Sum(1))
	return nil
}

// filledFrom returns a cache and those of the sinks that are filled from it, through any number of tiers, inner
// ones first: what came back in it may have reached them.
func (c *caches) filledFrom(one *cache) []*cache {
	out := []*cache{one}
	for _, each := range c.of {
		if each.lane.spec.Shadow || slices.Contains(out, each) {
			continue
		}
		if slices.ContainsFunc(out, func(inner *cache) bool { return slices.Contains(each.lane.spec.After, inner.lane.spec.Name) }) {
			out = append(out, each)
		}
	}
	return out
}
