package app

import (
	"context"
	"time"

	"github.com/walpurge/walpurge/cdc/watermark"
)

// parkedCounts is what sinks have refused: how many messages, and since when the
// oldest of a sink was due. What a cache may hold again is due as well.
type parkedCounts struct {
	counts map[string]uint64
	since  map[string]time.Time
}

func (a *App) parkedNow(ctx context.Context) (parkedCounts, error) {
	p := parkedCounts{since: make(map[string]time.Time)}
	var err error
	if p.counts, err = a.stream.Parked(ctx); err != nil {
		return p, err
	}
	for sink, n := range p.counts {
		if n == 0 {
			continue
		}
		if at, err := a.stream.OldestParked(ctx, sink); err == nil && !at.IsZero() {
			p.due(sink, at)
		}
	}
	return p, nil
}

func (p parkedCounts) due(sink string, since time.Time) {
	if at, some := p.since[sink]; !some || since.Before(at) {
		p.since[sink] = since
	}
}

// lag is the lag of a mark, counting what is parked as not purged, and not smaller
// than d. It is never less than what a row that was written now would meet.
func (p parkedCounts) lag(m watermark.Mark, d time.Duration, now time.Time) time.Duration {
	if m.Stage != watermark.Purged && m.Stage != watermark.Settled {
		return d
	}
	if at, some := p.since[m.Target]; some {
		return max(d, now.Sub(at))
	}
	return d
}
