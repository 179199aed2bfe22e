// Package delivery runs a lane: one sink's queue from the stream to the cache.
//
// A lane reads its messages in order, holds each until its gates are open,
// lets what has come together go as one purge, tries again until the sink has
// answered, and only then acknowledges. It knows the sink by one method and the
// stream by three, and nothing about either.
//
// What waits is counted by rule: past the over of a step, the coarser values that
// the messages carry are purged in place of their own. A value of a rule with a
// period that was purged a moment ago is deferred, its message with it; messages
// behind it are purged, and acknowledged once it has been. What is deferred is
// bounded, and past the bound is purged before its time.
//
// With a second purge, a message is acknowledged only when what was purged for it
// has been purged once more, the delay later. What waits for that is bounded, and
// past the bound the lane reads no further.
//
// When purges of one kind of value fail and another kind can be tried, the failed values are set
// aside and retried beside the queue (stuckKinds). Their messages stay unacknowledged, and the
// watermark stays before them. While all kinds fail, the queue waits.
//
// A flush is carried out in its turn; or, where flushes are spread over a time or
// held apart, beside the queue: then it holds back the watermark and nothing else.
//
// A lane past its share of the stream trades what it has there for one flush that
// is due behind it. What lies before that is acknowledged without a purge, and no
// watermark moves until the flush is done.
//
// An invalidation joins a purge only before that has started, and only with its
// own gates open. A gate that stays closed for longer than the lane's patience
// does not hold the purge back for ever: it is carried out early, counted, and
// carried out again when the gate opens; until then it stays unacknowledged, so
// a crash repeats it.
package delivery
