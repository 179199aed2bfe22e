package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/valkey"
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
	if a.warm(sink) != nil {
		return nil, &admin.BadRequestError{Err: fmt.Errorf("sink %s warms pages: it purges nothing and parks nothing; there is %s", sink, strings.Join(names, ", "))}
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

// maxManual bounds the values of one manual purge, so that it fits a message.
const maxManual = 10000

// Purge implements admin.Hand.
func (a *App) Purge(ctx context.Context, r admin.PurgeRequest) (admin.PurgeReport, error) {
	if err := a.ownStreamOnly(ctx); err != nil {
		return admin.PurgeReport{}, err
	}
	l, err := a.lane(r.Sink)
	if err != nil {
		return admin.PurgeReport{}, err
	}
	b := &invalidation.Batch{Sink: r.Sink, Origin: invalidation.FromHand, Flush: r.All, Items: []invalidation.Item{{Rule: "by_hand"}}}
	if r.All {
		b.Reason = invalidation.FlushManual
	}
	b.Items[0].Values = r.Values
	b.Items[0].Values[invalidation.URL] = withVariants(r.Values[invalidation.URL], a.variants(l))
	if err := l.takesAll(b); err != nil {
		return admin.PurgeReport{}, &admin.BadRequestError{Err: err}
	}
	report := a.purgeReport(ctx, l, b)
	if r.DryRun {
		report.DryRun = true
		if r.All || r.Supersede {
			report.Waiting, err = l.dropped(ctx, r.All)
		}
		return report, err
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
	a.log.Info("manual purge", "sink", r.Sink, "count", report.Items, "all", r.All, "supersede", r.Supersede)
	return report, nil
}

// plan is what flushes the lane's sink.
func (a *App) plan(l *lane) []invalidation.Invalidation {
	for i := range a.lanes {
		if a.lanes[i] == l {
			return (*a.plans.Load())[i]
		}
	}
	return nil
}

// variants are those that pages of the lane's sink have by rules.
func (a *App) variants(l *lane) []urlvariant.Variant {
	for i := range a.lanes {
		if a.lanes[i] == l {
			return a.set.Load().Variants(i)
		}
	}
	return nil
}

// withVariants adds to each URL that names no headers every variant by which rules purge pages.
func withVariants(urls []string, variants []urlvariant.Variant) (out []string) {
	for _, u := range urls {
		out = append(out, u)
		if _, named, err := urlvariant.Cut(u); err != nil || named != nil {
			continue
		}
		for _, v := range variants {
			out = append(out, v.Append(u))
		}
	}
	return out
}

func (l *lane) takesAll(b *invalidation.Batch) error {
	n := 0
	for k, values := range b.Items[0].Values {
		kind := invalidation.Kind(k)
		if len(values) > 0 && !l.spec.Takes.Has(kind) {
			return fmt.Errorf("sink %s takes no %s", l.spec.Name, kind)
		}
		for _, v := range values {
			if v == "" {
				return fmt.Errorf("an empty %s would purge nothing or everything; --all purges everything", kind)
			}
			if kind.Form() == invalidation.FormField {
				if key, _ := invalidation.SplitField(v); key == "" {
					return errors.New("a field has no key; name the hash")
				}
			}
		}
		n += len(values)
	}
	switch {
	case n == 0 && !b.Flush:
		return errors.New("nothing to purge: name a value, or all")
	case n > maxManual:
		return fmt.Errorf("%d values; purge at most %d in one call", n, maxManual)
	}
	return nil
}

// purgeReport says what a batch does at the sink, and how long its limits hold it back.
func (a *App) purgeReport(ctx context.Context, l *lane, b *invalidation.Batch) admin.PurgeReport {
	r := admin.PurgeReport{Pipeline: a.cfg.Pipeline, Kind: l.spec.Kind(), Where: l.where, Shadow: l.spec.Shadow}
	all := b.Invalidations(nil)
	if b.Flush {
		for _, inv := range a.plan(l) {
			all = append(all, inv)
			r.Plan = append(r.Plan, admin.PlanStep{Kind: inv.Kind.String(), Value: inv.Kind.Text(inv.Value)})
			r.Everything = r.Everything || inv.Kind == invalidation.Everything || inv.Kind == invalidation.KeyPattern && inv.Value == "*"
		}
	}
	calls, held := l.Calls(all)
	walks := 0
	for _, call := range calls {
		r.Items += len(call)
		if slices.ContainsFunc(call, func(inv invalidation.Invalidation) bool { return valkey.Walks(inv.Kind) }) {
			walks++
		}
	}
	r.Requests, r.Seconds = len(calls), held.Seconds()
	if walks == 0 || l.WalkTime == nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	walk, err := l.WalkTime(ctx)
	if err != nil {
		r.SecondsUnknown = err.Error()
	}
	r.Seconds = max(r.Seconds, float64(walks)*walk.Seconds())
	return r
}

const (
	// askPatience bounds what a report asks of sink and stream.
	askPatience = 5 * time.Second
	// countAtMost bounds the messages that are counted for one.
	countAtMost = 20_000
)

// dropped counts what a purge that supersedes drops. Flushes are dropped only by one of all.
func (l *lane) dropped(ctx context.Context, flushes bool) (*admin.PurgeWaiting, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	w, err := l.consumer.Waiting(ctx, countAtMost)
	if err != nil {
		return nil, err
	}
	if flushes {
		w.Items += w.Flushes
	}
	return &admin.PurgeWaiting{Items: w.Items, Messages: w.Messages, More: w.More}, nil
}

// Replay implements admin.Hand. What the stream holds is published once more, as
// manual purges.
func (a *App) Replay(ctx context.Context, r admin.ReplayRequest) (admin.ReplayReport, error) {
	var report admin.ReplayReport
	if err := a.ownStreamOnly(ctx); err != nil {
		return report, err
	}
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
		err := a.stream.Replay(ctx, l.spec.Name, r.Since, func(b *invalidation.Batch) error {
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
	a.log.Info("replayed on request", "sink", r.Sink, "count", report.Items)
	return report, nil
}

// publishPatiently stores a manual purge, and waits for room as long as the
// caller does.
func (a *App) publishPatiently(ctx context.Context, b *invalidation.Batch) error {
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
	if err := a.ownStreamOnly(ctx); err != nil {
		return nil, err
	}
	if _, err := a.lanesOf(sink); err != nil {
		return nil, err
	}
	if sink == "" {
		sink = "*"
	}
	var out []admin.Parked
	err := a.stream.ListParked(ctx, sink, func(p stream.ParkedBatch) bool {
		entry := admin.Parked{ID: p.ID, Sink: p.Batch.Sink, ParkedAt: p.At, LSN: p.Batch.Stamp.Position.LSN.String(), Error: p.Error}
		if p.Unknown != nil {
			entry.Error += "; " + p.Unknown.Error()
		}
		for _, inv := range p.Batch.Invalidations(nil) {
			entry.Items = append(entry.Items, admin.Value{Rule: inv.Rule, Kind: inv.Kind.String(), Value: inv.Kind.Text(inv.Value)})
		}
		for _, item := range p.Batch.Items {
			for _, u := range item.Unbuilt {
				v := admin.Value{Rule: item.Rule, Template: u.Template, Count: u.Count}
				if u.Of != invalidation.Everything { // else of a message, which may name any kind
					v.Kind = u.Of.String()
				}
				entry.Items = append(entry.Items, v)
			}
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
	if err := a.ownStreamOnly(ctx); err != nil {
		return 0, err
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
	done := 0
	for _, id := range ids {
		var unknown *invalidation.UnknownKindError
		switch err := do(ctx, id); {
		case err == nil:
			done++
		case len(r.IDs) == 0 && (errors.Is(err, stream.ErrNoParked) || errors.Is(err, stream.ErrNoValues) || errors.As(err, &unknown)):
			// Dropped, or counted up, since it was listed; or there is nothing to retry, or nothing that this version knows.
		case errors.Is(err, stream.ErrNoParked):
			return done, &admin.NotFoundError{What: fmt.Sprintf("parked message %d", id)}
		case errors.Is(err, stream.ErrNoValues), errors.As(err, &unknown):
			return done, &admin.BadRequestError{Err: err}
		default:
			return done, err
		}
	}
	a.log.Info("parked messages handled on request", "action", r.Action, "count", done)
	return done, nil
}

// Tail implements admin.Hand. The first call of each, with nil, says that it
// listens. A reader that is too slow misses batches, as every listener of core
// NATS does.
func (a *App) Tail(ctx context.Context, sink string, each func([]byte) error) error {
	if err := a.ownStreamOnly(ctx); err != nil {
		return err
	}
	if _, err := a.lanesOf(sink); err != nil {
		return err
	}
	if sink == "" {
		sink = "*"
	}
	messages := make(chan *nats.Msg, 256)
	sub, err := a.nc.ChanSubscribe(stream.PurgedSubject(a.cfg.Pipeline, sink), messages)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	asking, cancel := context.WithTimeout(ctx, signOfLife)
	err = a.nc.FlushWithContext(asking)
	cancel()
	if err != nil && ctx.Err() == nil {
		return &admin.SilentError{Err: a.streamSilent(err)}
	}
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
