package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules"
)

// lane returns the lane of a sink, or an error that names those there are.
func (a *App) lane(sink string) (*lane, error) {
	names := make([]string, len(a.lanes))
	for i, l := range a.lanes {
		if l.spec.Name == sink {
			return l, nil
		}
		names[i] = l.spec.Name
	}
	return nil, &admin.NotFoundError{What: fmt.Sprintf("sink %q; there is %s", sink, strings.Join(names, ", "))}
}

// lanesOf is the lane of one sink, or all with an empty name.
func (a *App) lanesOf(sink string) ([]*lane, error) {
	if sink == "" {
		return a.lanes, nil
	}
	l, err := a.lane(sink)
	return []*lane{l}, err
}

// maxByHand bounds the values of one purge by hand, so that it fits a message.
const maxByHand = 10000

// Purge implements admin.Hand.
func (a *App) Purge(ctx context.Context, r admin.PurgeRequest) (admin.PurgeReport, error) {
	l, err := a.lane(r.Sink)
	if err != nil {
		return admin.PurgeReport{}, err
	}
	b := &rules.Batch{Sink: r.Sink, Origin: rules.FromHand, Flush: r.All, Items: []rules.Item{{Rule: "by_hand"}}}
	if r.All {
		b.Reason = rules.FlushManual
	}
	values := &b.Items[0].Values
	values[rules.Key], values[rules.Tag], values[rules.URL] = r.Keys, r.Tags, r.URLs
	values[rules.URLPrefix], values[rules.KeyPrefix], values[rules.Generation] = r.URLPrefixes, r.KeyPrefixes, r.Generations
	if err := l.takesAll(b); err != nil {
		return admin.PurgeReport{}, &admin.BadRequestError{Err: err}
	}
	report := l.estimate(b, a.plan(l))
	report.DryRun = r.DryRun
	if r.DryRun {
		return report, nil
	}
	now := time.Now()
	b.Stamp.FirstCommit, b.Stamp.LastCommit = now, now
	if r.Supersede {
		if b.Supersedes, err = a.stream.Last(ctx); err != nil {
			return admin.PurgeReport{}, err
		}
	}
	if err := a.stream.PublishManual(ctx, b); err != nil {
		return admin.PurgeReport{}, err
	}
	a.log.Info("purge by hand", "sink", r.Sink, "count", report.Items, "all", r.All, "supersede", r.Supersede)
	return report, nil
}

// plan is what flushes the lane's sink.
func (a *App) plan(l *lane) []rules.Invalidation {
	for i := range a.lanes {
		if a.lanes[i] == l {
			return (*a.plans.Load())[i]
		}
	}
	return nil
}

func (l *lane) takesAll(b *rules.Batch) error {
	n := 0
	for k, values := range b.Items[0].Values {
		kind := rules.Kind(k)
		if len(values) > 0 && !l.spec.Takes.Has(kind) {
			return fmt.Errorf("sink %s takes no %s", l.spec.Name, kind)
		}
		for _, v := range values {
			if v == "" {
				return fmt.Errorf("an empty %s would purge nothing or everything; --all purges everything", kind)
			}
		}
		n += len(values)
	}
	switch {
	case n == 0 && !b.Flush:
		return errors.New("nothing to purge: name a value, or all")
	case n > maxByHand:
		return fmt.Errorf("%d values; purge at most %d in one call", n, maxByHand)
	}
	return nil
}

// estimate says what a batch comes to at the sink's limits.
func (l *lane) estimate(b *rules.Batch, plan []rules.Invalidation) admin.PurgeReport {
	all := b.Invalidations(nil)
	if b.Flush {
		all = append(all, plan...)
	}
	var byKind [rules.NumKinds]int
	for _, inv := range all {
		if l.limits.OneKind {
			byKind[inv.Kind]++
		} else {
			byKind[0]++
		}
	}
	r := admin.PurgeReport{Items: len(all)}
	for k, n := range byKind {
		per := max(1, l.limits.ItemsOf(rules.Kind(k)))
		r.Requests += (n + per - 1) / per
	}
	if l.limits.PerSecond > 0 {
		r.Seconds = max(0, float64(r.Requests-l.limits.Burst)) / l.limits.PerSecond
	}
	return r
}

// Pause implements admin.Hand.
func (a *App) Pause(sink string, paused bool) error {
	l, err := a.lane(sink)
	if err != nil {
		return err
	}
	if paused {
		a.log.Warn("lane paused by hand, its invalidations wait", "sink", sink)
		l.Pause()
		return nil
	}
	a.log.Info("lane resumed by hand", "sink", sink)
	l.Resume()
	return nil
}

// Replay implements admin.Hand. What the stream holds is published once more, as
// purges by hand.
func (a *App) Replay(ctx context.Context, r admin.ReplayRequest) (admin.ReplayReport, error) {
	var report admin.ReplayReport
	var from cdc.LSN
	switch {
	case r.From == "" && r.Since.IsZero(), r.From != "" && !r.Since.IsZero():
		return report, &admin.BadRequestError{Err: errors.New("say either since when or from which LSN to replay")}
	case r.From != "":
		var err error
		if from, err = cdc.ParseLSN(r.From); err != nil {
			return report, &admin.BadRequestError{Err: err}
		}
	}
	lanes, err := a.lanesOf(r.Sink)
	if err != nil {
		return report, err
	}
	for _, l := range lanes {
		err := a.stream.Replay(ctx, l.spec.Name, r.Since, func(b *rules.Batch) error {
			if b.Stamp.Position.LSN < from {
				return nil
			}
			report.Messages++
			report.Items += len(b.Invalidations(nil))
			return a.publishPatiently(ctx, b)
		})
		if err != nil {
			return report, err
		}
	}
	a.log.Info("replayed by hand", "sink", r.Sink, "count", report.Items)
	return report, nil
}

// publishPatiently stores a purge by hand, and waits for room as long as the
// caller does.
func (a *App) publishPatiently(ctx context.Context, b *rules.Batch) error {
	for {
		err := a.stream.PublishManual(ctx, b)
		if !errors.Is(err, stream.ErrManualFull) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Parked implements admin.Hand.
func (a *App) Parked(ctx context.Context, sink string, limit int) ([]admin.Parked, error) {
	if _, err := a.lanesOf(sink); err != nil {
		return nil, err
	}
	if sink == "" {
		sink = "*"
	}
	var out []admin.Parked
	err := a.stream.ListParked(ctx, sink, func(p stream.ParkedBatch) bool {
		entry := admin.Parked{ID: p.ID, Sink: p.Batch.Sink, ParkedAt: p.At, LSN: p.Batch.Stamp.Position.LSN.String(), Error: p.Error}
		for _, inv := range p.Batch.Invalidations(nil) {
			entry.Items = append(entry.Items, admin.Value{Rule: inv.Rule, Kind: inv.Kind.String(), Value: inv.Value})
		}
		out = append(out, entry)
		return len(out) < limit
	})
	return out, err
}

// Unpark implements admin.Hand.
func (a *App) Unpark(ctx context.Context, r admin.UnparkRequest) (int, error) {
	do, known := map[string]func(context.Context, uint64) error{"retry": a.stream.RetryParked, "drop": a.stream.DropParked}[r.Action]
	if !known {
		return 0, &admin.BadRequestError{Err: fmt.Errorf("action %q; write retry or drop", r.Action)}
	}
	ids := r.IDs
	if len(ids) == 0 {
		if r.Sink == "" && !r.All {
			return 0, &admin.BadRequestError{Err: errors.New("name ids, or a sink, or all")}
		}
		list, err := a.Parked(ctx, r.Sink, int(^uint(0)>>1))
		if err != nil {
			return 0, err
		}
		for _, p := range list {
			ids = append(ids, p.ID)
		}
	}
	for done, id := range ids {
		if err := do(ctx, id); err != nil {
			if errors.Is(err, stream.ErrNoParked) {
				return done, &admin.NotFoundError{What: fmt.Sprintf("parked message %d", id)}
			}
			return done, err
		}
	}
	a.log.Info("parked messages handled by hand", "action", r.Action, "count", len(ids))
	return len(ids), nil
}

// Tail implements admin.Hand. The first call of each, with nil, says that it
// listens. A reader that is too slow misses batches, as every listener of core
// NATS does.
func (a *App) Tail(ctx context.Context, sink string, each func([]byte) error) error {
	if _, err := a.lanesOf(sink); err != nil {
		return err
	}
	if sink == "" {
		sink = "*"
	}
	messages := make(chan *nats.Msg, 1024)
	sub, err := a.nc.ChanSubscribe(stream.PurgedSubject(a.cfg.Pipeline, sink), messages)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := each(nil); err != nil {
		return err
	}
	for {
		select {
		case m := <-messages:
			if err := each(m.Data); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
