package app

import (
	"context"
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/router/stream"
)

// wait blocks until the sink, or every sink, has purged up to lsn on the present timeline.
// It returns an *admin.ProblemError if rules that feed the sink cannot see or read all
// changes, and an error of parkedBelow. It does not retry: its caller does while there is time.
func (a *App) wait(ctx context.Context, lsn cdc.LSN, sink string) error {
	if a.warm(sink) == nil && !slices.ContainsFunc(a.lanes, func(l *lane) bool { return sink == "" || sink == l.spec.Name }) {
		return &admin.NotFoundError{What: "sink " + sink}
	}
	if err := a.problemAt(sink); err != nil {
		return err
	}
	received := watermark.Mark{Stage: watermark.Received}
	// Until the reader has begun, the timeline that lsn is meant on is unknown.
	if err := a.board.Wait(ctx, received, cdc.Position{Timeline: 1}); err != nil {
		return a.standingBy(ctx, err)
	}
	for {
		p := a.board.Get(received)
		p.LSN = lsn
		if a.board.Get(received).Before(p) {
			// Nothing may follow on an idle database until the next heartbeat.
			a.reader.Beat()
		}
		if err := a.waitFor(ctx, p, sink); err != nil {
			return a.standingBy(ctx, err)
		}
		// Every mark of a timeline lies after all of the one before, so a promotion
		// ends the wait without a purge: wait on the new one.
		if now := a.board.Get(received); now.SystemID != p.SystemID || now.Timeline != p.Timeline {
			continue
		}
		announced, err := a.compared(ctx)
		if err != nil {
			return err
		}
		if err := a.problemAt(sink); err != nil {
			return err
		}
		if announced > p.LSN {
			lsn = announced
			continue
		}
		return a.parkedBelow(ctx, p, sink)
	}
}

// standingBy replaces the error of a wait that ended while another process leads.
func (a *App) standingBy(ctx context.Context, err error) error {
	if standby := a.standby(ctx); standby != nil {
		return standby
	}
	return err
}

// compared has tables and rules compared now, so that a table which left the publication
// before the position was written is known. While nothing is read, nothing is compared.
func (a *App) compared(ctx context.Context) (announced cdc.LSN, err error) {
	if !a.reader.State().Phase.Reads() {
		return 0, nil
	}
	return a.reader.Compare(ctx)
}

// problemAt is the first open problem of rules that feed the sink, or with an empty name
// any sink.
func (a *App) problemAt(sink string) error {
	found, _ := a.reader.Problems()
	if p := status.At(status.Problems(a.set.Load(), a.cfg.SinkNames(), found), sink); p != nil {
		return &admin.ProblemError{Sinks: p.Sinks, Text: p.Text}
	}
	return nil
}

// waitFor blocks until the sink, or every sink, has purged up to p, and again what its cache may hold again. A warm
// sink that is named has fetched its pages then, or dropped them.
func (a *App) waitFor(ctx context.Context, p cdc.Position, sink string) error {
	if w := a.warm(sink); w != nil {
		for _, inner := range w.spec.After {
			if err := a.waitFor(ctx, p, inner); err != nil {
				return err
			}
		}
		return w.Wait(ctx, p)
	}
	for _, l := range a.lanes {
		if sink != "" && sink != l.spec.Name {
			continue
		}
		if err := a.board.Wait(ctx, watermark.Mark{Stage: watermark.Purged, Target: l.spec.Name}, p); err != nil {
			if st := l.Status(); st.Err != "" {
				return &admin.BlockedError{Sink: l.spec.Name, Why: st.Err}
			}
			return err
		}
		if err := l.Restored(ctx); err != nil {
			return err
		}
	}
	return nil
}

// parkedBelow returns an *admin.ParkedError if a sink, or with an empty name any
// sink, has parked something at or below p, and an *admin.ParkedUnknownError if the
// stream's server does not say.
func (a *App) parkedBelow(ctx context.Context, p cdc.Position, sink string) error {
	counts, err := a.stream.Parked(ctx)
	if err != nil {
		return &admin.ParkedUnknownError{Err: err}
	}
	for _, l := range a.lanes {
		name := l.spec.Name
		if sink != "" && sink != name || counts[name] == 0 {
			continue
		}
		below := 0
		err := a.stream.ListParked(ctx, name, func(b stream.ParkedBatch) bool {
			if !p.Before(b.Batch.Stamp.Position) {
				below++
			}
			return true
		})
		if err != nil {
			return &admin.ParkedUnknownError{Err: err}
		}
		if below > 0 {
			return &admin.ParkedError{Sink: name, Count: below}
		}
	}
	return nil
}
