package app

import (
	"context"
	"errors"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/router/stream"
)

// wait blocks until the sink, or every sink, has purged up to lsn on the
// present timeline, and then tells of what is parked below it.
func (a *App) wait(ctx context.Context, lsn cdc.LSN, sink string) error {
	received := watermark.Mark{Stage: watermark.Received}
	// Until the reader has begun, the timeline that lsn is meant on is unknown.
	if err := a.board.Wait(ctx, received, cdc.Position{Timeline: 1}); err != nil {
		return err
	}
	for {
		p := a.board.Get(received)
		p.LSN = lsn
		if a.board.Get(received).Before(p) {
			// Nothing may follow on an idle database until the next heartbeat.
			a.reader.Beat()
		}
		if err := a.waitFor(ctx, p, sink); err != nil {
			return err
		}
		// Every mark of a timeline lies after all of the one before, so a promotion
		// ends the wait without a purge: wait on the new one.
		if now := a.board.Get(received); now.SystemID == p.SystemID && now.Timeline == p.Timeline {
			return a.tellParked(ctx, p, sink)
		}
	}
}

// waitFor blocks until the sink, or every sink, has purged up to p.
func (a *App) waitFor(ctx context.Context, p cdc.Position, sink string) error {
	found := false
	for _, l := range a.lanes {
		if sink != "" && sink != l.spec.Name {
			continue
		}
		found = true
		if err := a.board.Wait(ctx, watermark.Mark{Stage: watermark.Purged, Target: l.spec.Name}, p); err != nil {
			return err
		}
	}
	if !found {
		return &admin.NotFoundError{What: "sink " + sink}
	}
	return nil
}

// tellParked returns what parkedBelow does, and tries again until the context ends
// where that cannot be read: of servers that die, another one soon answers.
func (a *App) tellParked(ctx context.Context, p cdc.Position, sink string) error {
	for {
		err := a.parkedBelow(ctx, p, sink)
		var parked *admin.ParkedError
		if err == nil || errors.As(err, &parked) {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return &admin.ParkedUnknownError{Err: err}
		}
	}
}

// parkedBelow returns an *admin.ParkedError if a sink, or with an empty name any
// sink, has parked something at or below p.
func (a *App) parkedBelow(ctx context.Context, p cdc.Position, sink string) error {
	counts, err := a.stream.Parked(ctx)
	if err != nil {
		return err
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
			return err
		}
		if below > 0 {
			return &admin.ParkedError{Sink: name, Count: below}
		}
	}
	return nil
}
