// Package beat lets those who look at something now and then look at the same
// moments. An idle process pays for waking up more than for what it then does, so
// five looks in one moment cost less than one look in each of five.
package beat

import "time"

// After is time.After, but sends at the next moment that is a whole multiple of d
// since the Unix epoch: after d at most, and after less the first time. In a loop with
// other cases the channel is kept until it has sent: a moment that falls between two
// calls is missed.
func After(d time.Duration) <-chan time.Time { return time.After(until(time.Now(), d)) }

// until is how long after a moment the next beat of d comes, never 0.
func until(now time.Time, d time.Duration) time.Duration {
	return d - time.Duration(now.UnixNano()%int64(d))
}
