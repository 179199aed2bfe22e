package config

import "time"

// maxSecondPurge bounds how long the stream keeps what was purged once.
const maxSecondPurge = time.Hour

// secondPurge reads the time after which a sink purges everything again.
func (l *loader) secondPurge(raw *rawSink) time.Duration {
	d := raw.SecondPurge.Value
	if d < 0 || d > maxSecondPurge {
		l.failf(raw.SecondPurge.Pos, "second_purge: %s; write a time up to %s, such as 2s, or 0 for none", d, maxSecondPurge)
	}
	return d
}
