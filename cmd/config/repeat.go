package config

import (
	"time"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// maxSecondPurge bounds how long the stream keeps what was purged once.
const maxSecondPurge = time.Hour

// maxFlushTime bounds how long a flush may be owed.
const maxFlushTime = 6 * time.Hour

// flushTimes reads over what time flushes are spread, and how far apart they are.
func (l *loader) flushTimes(raw *rawFlush) (pace, atMost time.Duration) {
	if raw == nil {
		return 0, 0
	}
	for _, f := range []struct {
		key  string
		from strictyaml.Located[time.Duration]
		to   *time.Duration
	}{{"pace", raw.Pace, &pace}, {"at_most", raw.AtMost, &atMost}} {
		*f.to = f.from.Value
		if *f.to < 0 || *f.to > maxFlushTime {
			l.failf(f.from.Pos, "flush.%s: %s; write a time up to %s, such as 5m, or leave it out", f.key, *f.to, maxFlushTime)
		}
	}
	return pace, atMost
}

// overflow reads what a sink's lane may leave in the stream, and what happens past
// that.
func (l *loader) overflow(cfg *Config, raw *rawSink) (most int64, stop bool) {
	most = int64(raw.MaxBacklog.Value)
	stop = l.oneOf(raw.OnOverflow, "on_overflow", "flush", "stop") == "stop"
	if half := cfg.Stream.MaxBytes / 2; most != 0 && (most < minBacklog || most > half) {
		l.failf(raw.MaxBacklog.Pos, "max_backlog: %s; write a size from %s to half of stream.max_bytes, %s",
			raw.MaxBacklog.Value, strictyaml.Size(minBacklog), strictyaml.Size(half))
	}
	return most, stop
}

// minBacklog is what any lane needs to work.
const minBacklog = 256 << 10

// secondPurge reads the time after which a sink purges everything again.
func (l *loader) secondPurge(raw *rawSink) time.Duration {
	d := raw.SecondPurge.Value
	if d < 0 || d > maxSecondPurge {
		l.failf(raw.SecondPurge.Pos, "second_purge: %s; write a time up to %s, such as 2s, or 0 for none", d, maxSecondPurge)
	}
	return d
}
