package app

import (
	"context"
	"slices"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// settleFormer sees to lanes of sinks that the file does not have any more, before
// others are opened: one that owes nothing is closed, one that does must be
// adopted or retired.
func (a *App) settleFormer(ctx context.Context) error {
	lanes, err := a.stream.Lanes(ctx)
	if err != nil {
		return err
	}
	kept := a.cfg.SinkNames()
	for _, s := range a.cfg.Sinks {
		kept = append(kept, s.Formerly)
	}
	var errs strictyaml.Errors
	for _, l := range lanes {
		if slices.Contains(kept, l.Sink) {
			continue
		}
		if l.Owes && !slices.Contains(a.cfg.Retired, l.Sink) {
			errs.Addf(a.cfg.File, a.cfg.Sinks[0].Pos, "sink %s is gone from the file, and its lane holds invalidations that were not purged; "+
				"give the sink that took its place `formerly: %s`, or drop them with `retired: [%s]` at the top level", l.Sink, l.Sink, l.Sink)
			continue
		}
		if err := a.stream.CloseLane(ctx, l.Sink); err != nil {
			return err
		}
		a.log.Info("closed the lane of a sink that is gone", "sink", l.Sink, "dropped_backlog", l.Owes)
	}
	return errs.Err()
}
