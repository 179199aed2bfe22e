package machine

import (
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// Limits of what is purged together. What a lane looks at when it counts the values of a rule that wait is
// as much, so they are generous; a queue of messages in turn may hold as much again.
const (
	MaxGroup  = 4096
	MaxValues = 12000
	// maxJobs bounds the manual purges that wait in memory.
	maxJobs = 64
)

// Config is what a Machine is made of. The fields with the names of delivery.Config are explained there.
type Config struct {
	Name                   string
	Limits                 sinks.Limits
	MaxPutOff              int64
	SecondPurge            time.Duration
	FlushPace, FlushAtMost time.Duration
	Flush                  func() []invalidation.Invalidation
	// Jitter returns a random duration from 0 up to d.
	Jitter func(d time.Duration) time.Duration
	// AckBeforePurge, JoinsInFlight and FlushAbsorbsLater are seeded faults, which tests have to find: messages are
	// acknowledged first, or what has come during a turn, or a turn with a flush, is taken as purged by it.
	AckBeforePurge, JoinsInFlight, FlushAbsorbsLater bool
}

// Machine is a lane's state.
type Machine struct {
	cfg Config
	now time.Time // of the step under way
	out []Effect
	// stack has what is under way, the newest on top; answer is the event that answers its call.
	stack             []step
	answer            *Event
	stopping, stopped bool

	tracker tracker
	pacer   *pacer
	again   *again
	flusher *flusher
	stuck   *stuckKinds
	refused refusals
	// ahead are the messages in turn, first of them those that were taken to see what kinds they have.
	ahead       []Ready
	aheadValues int
	// held: paused, or stopped by itself.
	held bool
	// hastened counts the calls of Hasten.
	hastened uint64

	// Manual purges that wait, those that wait for another attempt, and the one that replaces messages.
	hand       tracker
	urgent     []*Job
	retries    []retry
	superseded *cover

	// traded is the newest flush that replaces a backlog, begun the newest whose
	// purge has begun behind open gates; newest the last message that was worked on.
	traded, begun, newest uint64
	group                 uint64 // counts the turns
	// kept is the message of the queue that names a kind of value that this version does not know.
	kept *Ready
}

// New returns a machine that has nothing to do.
func New(cfg Config) *Machine {
	return &Machine{
		cfg: cfg, pacer: newPacer(), again: newAgain(cfg), stuck: newStuckKinds(),
		flusher: &flusher{pace: cfg.FlushPace, atMost: cfg.FlushAtMost},
	}
}

// Ready is a message whose turn has come.
type Ready struct {
	entry *Entry
	Msg   invalidation.Message
	// Final: with this purge the message is done. Otherwise its gates are still
	// closed and it comes again.
	Final bool
	// skipped: a flush further back replaces it.
	skipped bool
	// covered: a manual purge replaces it, and is carried out again in this turn.
	covered bool
	// passed: it is acknowledged, because a newer one holds what was deferred, and its batch has no
	// values any more.
	passed bool
}

// Add registers a message in the order of the stream. again: the stream has delivered it before, and it is ignored.
func (m *Machine) Add(msg invalidation.Message) (r Ready, again bool) {
	e, again := m.tracker.add(msg)
	return Ready{entry: e, Msg: msg, Final: true}, again
}

// Arrive hands over a message in turn, where Accepts says so.
func (m *Machine) Arrive(r Ready) {
	m.ahead = append(m.ahead, r)
	m.aheadValues += r.Size()
}

// Accepts reports whether the machine takes another message: to work on it, or to see what kinds of values it has.
func (m *Machine) Accepts() bool {
	switch n := len(m.stack); {
	case m.stopping:
		return false
	case n > 0:
		at, is := m.stack[n-1].(*attempt)
		return is && at.state == napping && len(at.kinds) == 1 && m.peeks()
	case !m.reads():
		return !m.held && m.peeks()
	}
	return m.peeks() && m.aheadValues < MaxValues
}

// Hold says that nothing is to be begun but manual purges, or ends that.
func (m *Machine) Hold(held bool) { m.held = held }

// Hasten ends the waits before retries.
func (m *Machine) Hasten() {
	m.hastened++
	m.stuck.hasten()
	for i := range m.retries {
		m.retries[i].due = time.Time{}
	}
}

// Stop says that what is under way is to be finished, or as much of it as succeeds at once, and nothing else is to be begun.
func (m *Machine) Stop() { m.stopping = true }

// Stopped reports that the machine does nothing any more, after Stop.
func (m *Machine) Stopped() bool { return m.stopped }

// Wake is how long after now the next Tick is due, if nothing else happens.
func (m *Machine) Wake(now time.Time) time.Duration {
	wake := invalidation.MaxEvery
	due := func(at time.Time) { wake = max(0, min(wake, at.Sub(now))) }
	for _, r := range m.retries {
		due(r.due)
	}
	if n := len(m.stack); n > 0 {
		if at, some := m.stack[n-1].wakes(); some {
			due(at)
		}
		return wake
	}
	if !m.held {
		if at, some := m.nextBeside(); some {
			due(at)
		}
	}
	return wake
}

// nextBeside is when something is due that no message brings.
func (m *Machine) nextBeside() (at time.Time, some bool) {
	for _, next := range []func() (time.Time, bool){m.pacer.next, m.again.next, m.flusher.next, m.stuck.next} {
		if t, is := next(); is && (!some || t.Before(at)) {
			at, some = t, true
		}
	}
	return at, some
}

// Step tells the machine of an event, and returns what is to be done. The effects are valid until the next step. If
// the last one is Call or Park, the next event is its answer.
func (m *Machine) Step(now time.Time, e Event) []Effect {
	m.now, m.out = now, m.out[:0]
	switch e.Kind {
	case Called, Parked:
		m.answer = &e
	case Tick:
	}
	m.urge()
	for !m.stopped {
		n := len(m.stack)
		if n > 0 && m.stack[n-1].run(m) || n == 0 && !m.begin() {
			break
		}
	}
	return m.out
}

// begin puts what is to be done next on the stack, and reports whether there is something.
func (m *Machine) begin() bool {
	if m.stopping {
		m.stopped = true
		return false
	}
	if m.begun < m.traded {
		m.releaseStuck(func(i *incomplete) bool { return m.Skips(i.ready.Msg) }, true)
	}
	beside, due := m.nextBeside()
	switch {
	case m.kept != nil && m.replaced(m.kept.Msg):
		m.push(&turn{group: []Ready{m.release()}})
	case len(m.urgent) > 0:
		m.serve()
	case m.reads() && len(m.ahead) > 0:
		m.take()
	case due && !m.held && !m.now.Before(beside):
		m.push(&besides{})
		if at, some := m.pacer.next(); some && !m.now.Before(at) {
			m.push(&turn{})
		}
	default:
		return false
	}
	return true
}

// reads reports whether the machine works on messages of the queue: while it is held, on those that a flush replaces, and
// that flush.
func (m *Machine) reads() bool {
	return m.kept == nil && (!m.held || m.begun < m.traded) && m.readsOn()
}

// take works on the messages in turn, as many as go together, and then on what is due. A message that is to be kept ends them.
func (m *Machine) take() {
	n, values := 0, 0
	for n < len(m.ahead) && n < MaxGroup && (n == 0 || values < MaxValues && m.ahead[n-1].Msg.Unknown == nil) {
		values += m.ahead[n].Size()
		n++
	}
	group := m.ahead[:n:n]
	m.ahead = m.ahead[n:]
	m.aheadValues -= values
	m.do(Effect{Verb: Taken, N: values})
	if last := group[n-1]; last.Msg.Unknown != nil && !m.replaced(last.Msg) {
		m.keepUnknown(last)
		group = group[:n-1]
	}
	m.push(&besides{})
	m.push(&turn{group: group})
}

// peeks reports whether the machine may take one more message to see what kinds it has.
func (m *Machine) peeks() bool {
	n := len(m.ahead)
	return m.kept == nil && n < MaxGroup && (n == 0 || m.ahead[n-1].Msg.Unknown == nil)
}

// Size is the number of values in the message; long ones count more.
func (r Ready) Size() int {
	if r.entry == nil {
		return SizeOf(r.Msg.Batch)
	}
	return r.entry.size
}

// keepUnknown holds the queue at a message that names a kind of value that this version does not
// know, until a flush or a manual purge replaces it. Acknowledged, its purge would be lost.
func (m *Machine) keepUnknown(r Ready) {
	m.kept = &r
	m.observe(Note{Condition: UnknownKind, Attrs: []any{"err", r.Msg.Unknown, "seq", r.Msg.Seq}, Counted: "messages", N: 1})
	m.do(Effect{Verb: ShowUnknown, Err: r.Msg.Unknown})
}

// release ends keepUnknown, and returns the message.
func (m *Machine) release() Ready {
	r := *m.kept
	m.kept = nil
	m.end(UnknownKind)
	m.do(Effect{Verb: ShowUnknown})
	return r
}

// replaced reports whether a flush or a manual purge covers all that the message may name.
func (m *Machine) replaced(msg invalidation.Message) bool { return m.Skips(msg) || m.coveredBy(msg) }
