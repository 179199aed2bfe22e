package delivery

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// Status is a lane's condition for status pages.
type Status struct {
	State State
	// Err is the newest failure while the lane is not ok; it holds no secret.
	Err   string
	Since time.Time
	// Class is that of the failure, empty without one.
	Class string
	// Gates names those that a gated lane waits for.
	Gates []string
	// Stuck are kinds of values that wait because their purges fail; with OthersGo other kinds are
	// purged meanwhile.
	Stuck    []machine.Stuck
	OthersGo bool
}

// State says in one word what a lane is doing.
type State string

// The states.
const (
	OK        State = "ok"
	Gated     State = "gated"     // waits for a gate
	Throttled State = "throttled" // the provider asked for a pause
	Blocked   State = "blocked"   // the sink fails
	Flushing  State = "flushing"
	Paused    State = "paused" // by an operator
)

// States lists them for metrics.
var states = []State{OK, Gated, Throttled, Blocked, Flushing, Paused}

// display is what a lane shows, and what that is derived from.
type display struct {
	mu sync.Mutex
	// Status is what is shown; doing is the state without gates, stuck kinds and the like.
	Status
	doing State
	// slow counts for each gate the waits for it that have lasted for longer than slowGate.
	slow []int
	// shut says since when the gates were found closed, zero for an open one.
	shut []time.Time
	// early has for each gate the messages that were purged while it was closed, and that
	// still wait for it.
	early  []map[uint64]struct{}
	paused bool
	// halted is why the lane stopped by itself, until it is resumed.
	halted error
	// unknown says which kind of value this version does not know, while a message that names
	// one is kept.
	unknown error
	// flushing: a flush waits or runs.
	flushing bool
	// throttled is the time in that state, up to the last time it was left.
	throttled time.Duration
}

// Status returns what the lane is doing.
func (l *Lane) Status() Status {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	s := l.display.Status
	for i := range l.cfg.Gates {
		if s.State == Gated && l.closed(i) && !slices.Contains(s.Gates, l.cfg.Gates[i].Name) {
			s.Gates = append(s.Gates, l.cfg.Gates[i].Name)
		}
	}
	return s
}

// closed reports that a gate holds the lane back: a message waits for it, or was purged
// while it was closed and has not passed it yet. The caller holds the lock.
func (l *Lane) closed(gate int) bool {
	return l.display.slow[gate] > 0 || len(l.display.early[gate]) > 0
}

func (l *Lane) enter(s State, err error) {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	switch {
	case s == OK && l.display.paused:
		s = Paused
	case s == OK && l.display.halted != nil:
		s, err = Blocked, l.display.halted
	case s == OK && l.display.flushing:
		s = Flushing
	}
	l.display.Err, l.display.Class = "", ""
	if err != nil {
		l.display.Err = err.Error()
	}
	l.display.doing = s
	l.show()
}

// show derives the state from what the lane does and from its gates. A gate must not hide
// a sink that fails. The caller holds the lock.
func (l *Lane) show() {
	s := l.display.doing
	for i := range l.cfg.Gates {
		if s == OK && l.closed(i) {
			s = Gated
		}
	}
	if (s == OK || s == Gated) && l.display.unknown != nil {
		s, l.display.Err = Blocked, l.display.unknown.Error()
	}
	if (s == OK || s == Gated) && len(l.display.Stuck) > 0 {
		s, l.display.Err, l.display.Class = Blocked, stuckText(l.display.Stuck, l.display.OthersGo), l.display.Stuck[0].Class
	}
	if l.display.State != s {
		if l.display.State == Throttled {
			l.display.throttled += time.Since(l.display.Since)
		}
		l.display.Since = time.Now()
		l.metrics.enter(s)
		l.display.State = s
	}
}

// waits counts a slow wait for a gate that began (1) or ended (-1).
func (l *Lane) waits(gate, change int) {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	l.display.slow[gate] += change
	l.show()
}

// fail shows a failure, and logs it.
func (l *Lane) fail(class sinks.Class, err error) {
	state := Blocked
	if class == sinks.Throttled {
		state = Throttled
	}
	l.enter(state, err)
	l.display.mu.Lock()
	l.display.Class = class.String()
	l.display.mu.Unlock()
	l.failed(class, err)
}

// showStuck shows which kinds are stuck, and whether others go on.
func (l *Lane) showStuck(stuck []machine.Stuck, others bool) {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	l.metrics.setStuck(stuck)
	if len(l.display.Stuck) > 0 && len(stuck) == 0 {
		l.display.Err, l.display.Class = "", ""
	}
	l.display.Stuck, l.display.OthersGo = stuck, others
	l.show()
}

func (l *Lane) showFlushing(flushing bool) {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	l.display.flushing = flushing
}

func (l *Lane) showUnknown(why error) {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	if l.display.unknown != nil && why == nil {
		l.display.Err = ""
	}
	l.display.unknown = why
	l.show()
}

// stuckText says what is stuck.
func stuckText(all []machine.Stuck, others bool) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Kind.Plural())
	}
	meanwhile := ""
	if others {
		meanwhile = ", while other kinds are purged"
	}
	return fmt.Sprintf("purges of %s fail since %s%s: %s", strings.Join(names, " and "), all[0].Since.UTC().Format(time.RFC3339), meanwhile, all[0].Err)
}

// Pause holds the lane: what is in flight is finished, the rest waits until
// Resume. Manual purges are carried out all the same.
func (l *Lane) Pause() { l.hold(true) }

// Resume ends a Pause, and the wait before a retry.
func (l *Lane) Resume() {
	l.hold(false)
	l.Hasten()
}

// Hasten ends the waits before retries, also those that a provider asked for.
func (l *Lane) Hasten() {
	l.mu.Lock()
	l.machine.Hasten()
	l.mu.Unlock()
	l.poke()
}

func (l *Lane) hold(paused bool) {
	l.display.mu.Lock()
	changed := l.display.paused != paused
	l.display.paused = paused
	if !paused {
		changed = changed || l.display.halted != nil
		l.display.halted = nil
		l.conditions.At(stopped).End()
	}
	l.display.mu.Unlock()
	if !changed {
		return
	}
	l.setHeld(paused)
	if paused {
		l.enter(Paused, nil)
	} else {
		l.enter(OK, nil)
	}
	l.poke()
}

// halt holds the lane until it is resumed on request.
func (l *Lane) halt(why error) {
	l.display.mu.Lock()
	l.display.halted = why
	l.display.mu.Unlock()
	l.setHeld(true)
	l.enter(Blocked, why)
	l.conditions.At(stopped).Observe("err", why)
	l.poke()
}

func (l *Lane) setHeld(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machine.Hold(held)
}
