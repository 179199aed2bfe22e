// Package sinktest is the conformance suite of sinks: what the lane that calls
// a sink relies on, tried against the sink and a backend that can be made to
// misbehave.
//
// It owns the demands, not the backends: a sink's own tests bring a Subject
// (how to start the backend, fill it, look into it, break it and mend it) and
// call Run once. A purge is believed only when the backend says that the entry
// is gone, never because Purge returned nil.
//
// A hook that a Subject leaves nil says that this backend has no such
// behaviour; the demands that need it are then not made. Nothing is ever
// skipped for want of a server: a Start that cannot start one fails the test.
package sinktest
