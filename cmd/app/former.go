package app

import (
	"context"
	"slices"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// former finds the lanes of sinks that a file does not have any more. One
// with a backlog must be adopted or retired.
func (a *App) former(ctx context.Context, cfg *config.Config) (gone []stream.LaneInfo, err error) {
	lanes, err := a.stream.Lanes(ctx)
	if err != nil {
		return nil, err
	}
	kept := cfg.SinkNames()
	for _, s := range cfg.Sinks {
		kept = append(kept, s.Formerly)
	}
	var errs strictyaml.Errors
	for _, l := range lanes {
		if slices.Contains(kept, l.Sink) {
			continue
		}
		if l.Backlog && !slices.Contains(cfg.Retired, l.Sink) {
			errs.Addf(cfg.File, cfg.Sinks[0].Pos, "sink %s is gone from the file, and its lane holds invalidations that were not purged; "+
				"give the sink that took its place `formerly: %s`, or drop them with `retired: [%s]` at the top level", l.Sink, l.Sink, l.Sink)
			continue
		}
		gone = append(gone, l)
	}
	return gone, errs.Err()
}

// settleFormer closes lanes of sinks that the file does not have any more, before
// others are opened.
func (a *App) settleFormer(ctx context.Context) error {
	gone, err := a.former(ctx, a.cfg)
	if err != nil {
		return err
	}
	for _, l := range gone {
		if err := a.stream.CloseLane(ctx, l.Sink); err != nil {
			return err
		}
		a.log.Info("closed the lane of a sink that is gone", "sink", l.Sink, "dropped_backlog", l.Backlog)
	}
	return nil
}
