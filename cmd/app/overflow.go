package app

import (
	"context"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// overflow is what bounds a sink's backlog. A flush of an earlier run that stands
// for one holds whether or not there still is a bound.
func (a *App) overflow(ctx context.Context, s config.Sink, c *stream.Consumer) (delivery.Overflow, error) {
	pending, err := a.stream.Overflowed(ctx, c, s.Formerly)
	o := delivery.Overflow{
		MaxBacklog: s.MaxBacklog, Stop: s.StopOnOverflow, Backlog: c.BacklogBytes, PendingFlush: pending,
		StoreFlush: func(ctx context.Context) (uint64, error) { return a.stream.Overflow(ctx, s.Name) },
	}
	if !s.StopOnOverflow {
		o.Pressing = func(ctx context.Context) (uint64, bool, error) {
			floor := c.Floor()
			pressing, err := a.stream.Pressing(ctx, floor, a.floor())
			return floor, pressing, err
		}
	}
	return o, err
}

// maxPutOff is what a lane may leave unacknowledged on purpose. What other sinks
// were sent meanwhile stays in the stream, too; and what waits on purpose must
// not be what passes the bound of a backlog.
func maxPutOff(maxBytes, maxBacklog int64) int64 {
	if maxBacklog > 0 {
		return min(maxBytes/16, maxBacklog/4)
	}
	return maxBytes / 16
}
