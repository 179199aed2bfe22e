// Package machine decides what a lane does: which values one call of the sink gets and when, what is tried again,
// deferred, purged a second time or parked, and which messages are acknowledged. It does none of that: a
// Machine takes events with their times, and returns effects in the order in which they are to be carried out. It has
// no goroutine, lock, channel, clock or randomness of its own, so that a schedule of events can be repeated exactly.
//
// What is under way is a stack of steps. At the bottom is a turn, a part of a flush, a round of second purges or a
// retry of one kind of value; above it are the calls that this takes, each with its attempts; and above those is what a
// refusal asks for. A manual purge goes on top between two calls. One call is under way at a time.
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
// A flush may replace a backlog. What lies before it is acknowledged without a purge, and no
// watermark moves until the flush is done.
package machine
