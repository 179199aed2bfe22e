package watermark

import (
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// line remembers when the log passed which position, in two series: what was
// received, with commit times, and what the server was seen at. Both are
// bounded; thinning them makes the lag read off them larger, never smaller.
type line struct {
	commits series
	server  series
	seen    time.Time
	seenAt  cdc.Position
}

// NoteCommits records that all commits up to end were received, the first of
// which (since the last call) committed at first.
func (b *Board) NoteCommits(end cdc.Position, first time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line.commits.add(end, first)
}

// ServerSeen returns when the query was sent that saw the server's log last.
func (b *Board) ServerSeen() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.line.seen
}

// NoteServer records that the server's log was seen at p by a query sent at
// the time sent: whatever lies beyond p was written after that.
func (b *Board) NoteServer(p cdc.Position, sent time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	since := sent
	if !b.line.seen.IsZero() {
		since = b.line.seen
	}
	b.line.server.add(p, since)
	b.line.seen, b.line.seenAt = sent, p
}

// slack is how far the server's insert position may lie beyond the end of the
// last record without any record between: a page header is 24 or 40 bytes
// (access/xlog_internal.h), and no transaction that changes a row is as short.
const slack = 40

// Lag returns how old the oldest committed change is that the mark may not have
// passed. It is an upper bound: it grows while the server is out of sight. The
// result is negative when nothing is known yet.
func (b *Board) Lag(m Mark, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.marks[m]
	if p.Zero() || b.line.seen.IsZero() {
		return -1
	}
	near := p
	near.LSN += slack
	since, behind := b.line.server.after(near)
	if !behind {
		since = b.line.seen
	}
	if commit, ok := b.line.commits.after(p); ok && commit.After(since) {
		since = commit
	}
	return max(0, now.Sub(since))
}

// LagBytes returns the distance from the mark to the newest position the server
// was seen at or the reader received, 0 across timelines.
func (b *Board) LagBytes(m Mark) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	head := b.marks[Mark{Stage: Received}]
	if head.Before(b.line.seenAt) {
		head = b.line.seenAt
	}
	p := b.marks[m]
	if p.Timeline != head.Timeline || p.LSN >= head.LSN {
		return 0
	}
	return uint64(head.LSN - p.LSN)
}

// series is a bounded list of (position, time) in rising order: the log between
// the position before and this one was written at or after the time.
type series struct {
	points []point
}

type point struct {
	at    cdc.Position
	since time.Time
}

const maxPoints = 4096

func (s *series) add(p cdc.Position, since time.Time) {
	if n := len(s.points); n > 0 {
		last := &s.points[n-1]
		if last.at.SystemID != p.SystemID {
			s.points = s.points[:0]
		} else if !last.at.Before(p) {
			return
		}
	}
	if len(s.points) == maxPoints {
		for i := range maxPoints / 2 {
			s.points[i] = point{at: s.points[2*i+1].at, since: s.points[2*i].since}
		}
		s.points = s.points[:maxPoints/2]
	}
	s.points = append(s.points, point{at: p, since: since})
}

// after returns the time of the first point beyond p.
func (s *series) after(p cdc.Position) (time.Time, bool) {
	lo, hi := 0, len(s.points)
	for lo < hi {
		mid := (lo + hi) / 2
		if p.Before(s.points[mid].at) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == len(s.points) {
		return time.Time{}, false
	}
	return s.points[lo].since, true
}
