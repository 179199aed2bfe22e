// Package delivery runs a lane: one sink's queue from the stream to the cache.
//
// A lane reads its messages in order, holds each until its gates are open,
// lets what has come together go as one purge, tries again until the sink has
// answered, and only then acknowledges. It knows the sink by one method and the
// stream by three, and nothing about either. What it does next is decided by a state
// machine (package machine); this package waits for the gates, for time and for calls, and carries out what the
// machine wants.
//
// A lane past its share of the stream trades what it has there for one flush that
// is due behind it.
//
// An invalidation joins a purge only before that has started, and only with its
// own gates open. A gate that stays closed for longer than the lane's patience
// does not hold the purge back for ever: it is carried out early, counted, and
// carried out again when the gate opens; until then it stays unacknowledged, so
// a crash repeats it.
package delivery
