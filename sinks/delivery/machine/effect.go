package machine

import (
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// Event is what a Machine is told.
type Event struct {
	Kind EventKind
	// Err is the outcome of a call, or of the attempt to park something.
	Err error
	// Began and Took are when a call began, behind its budgets, and how long it took.
	Began time.Time
	Took  time.Duration
}

// EventKind tells events apart.
type EventKind int

// The kinds of events.
const (
	// Tick: time has passed, a message has arrived, or a setting has changed.
	Tick EventKind = iota
	// Called answers Call.
	Called
	// Parked answers Park.
	Parked
)

// Effect is what a Machine wants done.
type Effect struct {
	Verb Verb
	// ByHand: it is for the stream of manual purges, or a call for one.
	ByHand bool
	On     bool
	Class  sinks.Class
	// Seq is a sequence of the stream.
	Seq   uint64
	Invs  []invalidation.Invalidation
	Batch *invalidation.Batch
	Claim *cdc.Claim
	Err   error
	// Name is that of a rule, of a reason or of a point, N a number, At a time, For a duration.
	Name string
	N    int
	At   time.Time
	For  time.Duration
	// Stuck are the kinds for ShowStuck, Note is for Observe and End.
	Stuck []Stuck
	Note  *Note
}

// Note is a line for the log of conditions.
type Note struct {
	Condition Condition
	Labels    []string
	Attrs     []any
	// Counted, where it is not empty, names N, which is added up while the condition lasts.
	Counted string
	N       int
}

// Verb says what an effect asks for.
type Verb int

// The verbs.
const (
	// Call: purge Invs in one call, as soon as the budgets have room. Answered by Called, and the last of its step.
	Call Verb = iota
	// Park: store Batch, which the sink refuses because of Err. Answered by Parked, and the last of its step.
	Park
	// Announce: tell listeners that Batch at Seq was purged.
	Announce
	// Ack: acknowledge everything up to and with Seq.
	Ack
	// Purged and Settled: everything that Claim claims was purged, and purged a second time where that is asked for.
	Purged
	Settled
	// Point: a place where a test may end the process.
	Point
	// Taken: N values were taken from the queue.
	Taken

	// Works: the sink takes purges, as far as is known. FlushesInTurn: it is being flushed. Failed: the newest
	// call failed with Err of Class. Succeeded: one was taken.
	Works
	FlushesInTurn
	Failed
	Succeeded
	// Waits: nothing is called for the duration For.
	Waits
	// ShowStuck, ShowFlushing and ShowUnknown are for the status.
	ShowStuck
	ShowFlushing
	ShowUnknown

	// TurnBegan and TurnEnded surround the work on N messages.
	TurnBegan
	TurnEnded
	// Traced: the purge of Batch began at At and has ended.
	Traced
	// Latency: Batch was purged at At.
	Latency
	// Coalesced, Collapsed, FlushBegan and ParkedValues count N for the rule or the reason Name.
	Coalesced
	Collapsed
	FlushBegan
	ParkedValues
	// Observe: the condition of Note holds. End: it does not any more.
	Observe
	End
	// AbsorbLater is a seeded fault; see Config.
	AbsorbLater
)

// Condition is something that the log tells the beginning and the end of.
type Condition int

// The conditions.
const (
	Flushes Condition = iota
	Coarsened
	Replaced
	Parks
	Unbuilds
	KindFails
	ManualFails
	UnknownKind
	Superseded
	SupersedeRefused
)

func (m *Machine) do(e Effect) { m.out = append(m.out, e) }

func (m *Machine) observe(n Note) { m.do(Effect{Verb: Observe, Note: &n}) }

func (m *Machine) end(c Condition, labels ...string) {
	m.do(Effect{Verb: End, Note: &Note{Condition: c, Labels: labels}})
}
