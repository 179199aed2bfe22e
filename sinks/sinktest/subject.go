package sinktest

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
)

// Subject is one kind of sink under test.
type Subject struct {
	// Kinds and Limits are what the sink's Config says of itself.
	Kinds  invalidation.KindSet
	Limits sinks.Limits
	// Kind is the kind the suite purges by. It must be exact: one value names
	// one entry of the backend.
	Kind invalidation.Kind
	// Value makes the n-th valid value of Kind, each n another. Nil stands for
	// short names of letters, digits and dashes.
	Value func(n int) string
	// Start starts a backend for one test and stops it by t.Cleanup.
	Start func(t *testing.T, env Env) Rig
	// Parallel has the test that calls Run continue in parallel with others, after the demand that
	// Close leaves nothing running. Its backends must then be its own.
	Parallel bool
}

// Env is what the suite hands to a backend and its sink so that it can watch
// them.
type Env struct {
	// Secret is the credential the backend demands and the sink is given. The
	// suite looks for it in every error and log line.
	Secret string
	// Logger is the one to give to the sink.
	Logger *slog.Logger
}

// Rig is one running backend with the handles to fill, inspect and break it.
type Rig struct {
	// Open makes a sink on the backend. The second result closes the sink, not
	// the backend, and may be called twice.
	Open func(t *testing.T) (sinks.Sink, func())
	// Rest waits until what the sink's documentation lets outlive its Close for a
	// moment is gone. Nil says that nothing may.
	Rest func(t *testing.T)
	// Fill stores one entry per value behind the sink's back.
	Fill func(t *testing.T, values []string)
	// Held tells whether the backend still serves the entry of value.
	Held func(t *testing.T, value string) bool

	// Snapshot keeps what the backend holds; the function that it returns has the backend come back with
	// that. Nodes asks an open sink for the history of its cache. Nil where the protocol does not let a sink
	// notice that its cache came back.
	Snapshot func(t *testing.T) (comeBack func(t *testing.T))
	Nodes    func(t *testing.T, sink sinks.Sink) []history.Node

	// Faults are the ways in which a whole call can fail.
	Faults []Fault
	// Heal undoes whichever fault, hang, partial failure or refusal of a kind was armed.
	Heal func(t *testing.T)
	// Hang makes the backend take requests and never answer; the channel is
	// closed once a purge has arrived.
	Hang func(t *testing.T) (arrived <-chan struct{})
	// Partial arms the backend so that some of the batch it returns are refused
	// and the others carried out; failed maps the places of the refused ones to
	// the class to be reported.
	Partial func(t *testing.T) (batch []invalidation.Invalidation, failed map[int]sinks.Class)
	// RefuseKind makes the backend refuse all values of another kind than the suite's, and take those of the suite's. It
	// returns a value of that kind, and the class to be reported. Nil where a backend cannot tell its kinds apart.
	RefuseKind func(t *testing.T) (refused invalidation.Invalidation, class sinks.Class)
	// Rotate makes the backend demand another secret, forget who is connected,
	// and puts the new secret where the sink's configuration says it lies.
	Rotate func(t *testing.T, secret string)
}

// Fault is one way in which a backend fails a whole call.
type Fault struct {
	Name string
	Arm  func(t *testing.T)
	// Class is how the sink must report it.
	Class sinks.Class
	// After is the pause it must report when Class is Throttled.
	After time.Duration
}

func (s Subject) value(n int) string {
	if s.Value != nil {
		return s.Value(n)
	}
	return "conformance-" + strconv.Itoa(n)
}

// values makes n valid values, beginning with the first-th.
func (s Subject) values(first, n int) []string {
	vv := make([]string, n)
	for i := range vv {
		vv[i] = s.value(first + i)
	}
	return vv
}

func (s Subject) batch(values []string) []invalidation.Invalidation {
	b := make([]invalidation.Invalidation, len(values))
	for i, v := range values {
		b[i] = invalidation.Invalidation{Kind: s.Kind, Value: v, Rule: "conformance"}
	}
	return b
}

func valuesOf(batch []invalidation.Invalidation) []string {
	vv := make([]string, len(batch))
	for i, inv := range batch {
		vv[i] = inv.Value
	}
	return vv
}
