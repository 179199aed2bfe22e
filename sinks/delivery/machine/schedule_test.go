package machine

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// The values of the schedules, as bits of a set.
const (
	keyValues   = 8      // k0 to k7
	badValue    = 1 << 8 // which the sink refuses for good
	flushValues = 7 << 9 // f1 to f3
	coarseValue = 1 << 12
	allKeys     = 1<<keyValues - 1 | badValue
	evenKeys    = 0x55 | badValue // those that are never generations
)

var valueNames = [...]string{"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "bad", "f1", "f2", "f3", "coarse"}

var valueBits = func() map[string]int {
	out := map[string]int{}
	for i, name := range valueNames {
		out[name] = 1 << i
	}
	return out
}()

// fact is a message of a schedule and what is known of it.
type fact struct {
	msg invalidation.Message
	// has are its values, lacks those that no purge has carried out since its gate opened; coarse: one of
	// coarseValue will do for keys.
	has, lacks int
	coarse     bool
	opened     int // when its gate opened, 0 before
	// first says when a value was carried out, until that was done again.
	again int
	first [len(valueNames)]time.Time
	// began is, for a flush that replaces messages, when the newest purge of each of its values began; replaces is the newest of those.
	began    [len(valueNames)]int
	replaces uint64
	ready    Ready
	state    int // in the session: 0 not read, 1 waits for its gate, 2 purged early and waits, 3 handed over
}

// schedule is a machine's surroundings under a seed: when messages come and gates open, what the sink answers, which
// acknowledgements get lost, what an operator does, when the process ends and starts again. It knows what each message still lacks.
type schedule struct {
	t     testing.TB
	seed  uint64
	rnd   *rand.Rand
	now   time.Time
	clock int // counts events; what begins later has a larger number

	m                            *Machine
	facts                        []*fact // of the stream, and manual purges of everything
	manual                       []*fact
	read, manualRead, manualDone int
	floor                        uint64
	turn                         []Ready
	held, calm                   bool
	delay                        time.Duration
	trades, kinds, oneKind, pace bool
	coarseRefused                bool
	refused                      [invalidation.NumKinds]bool
	calls                        int
}

func newSchedule(t testing.TB, seed uint64) *schedule {
	return &schedule{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_700_000_000, 0), delay: time.Duration(seed%3) * 700 * time.Millisecond,
		pace: seed/3%2 == 1, trades: seed/6%2 == 1, kinds: seed/12%2 == 1, oneKind: seed/24%2 == 1, coarseRefused: seed/48%4 == 3,
	}
}

func (s *schedule) tick() int { s.clock++; return s.clock }

func (s *schedule) failf(format string, args ...any) {
	s.t.Errorf("seed %d: "+format, append([]any{s.seed}, args...)...)
}

func (s *schedule) add(m invalidation.Message, has int) *fact {
	f := &fact{msg: m, has: has, lacks: has}
	if s.delay > 0 && m.Batch != nil && (!m.Batch.Flush || m.Batch.Origin == invalidation.FromHand) {
		f.again = has
	}
	s.facts = append(s.facts, f)
	return f
}

func (s *schedule) push() {
	seq := uint64(len(s.facts) + 1)
	switch {
	case s.rnd.IntN(3) == 0:
		s.add(claim(seq, 1), 0)
	case s.rnd.IntN(12) == 0:
		m := batch(seq)
		m.Batch.Flush = true
		s.add(m, flushValues)
	default:
		m := batch(seq)
		m.Batch.Items = make([]invalidation.Item, 1)
		item := &m.Batch.Items[0]
		item.Rule = "r"
		has := 0
		for range 1 + s.rnd.IntN(3) {
			k := s.rnd.IntN(keyValues)
			if s.rnd.IntN(20) == 0 {
				k = keyValues
			}
			if has&(1<<k) != 0 {
				continue
			}
			has |= 1 << k
			kind := invalidation.Key
			if s.kinds && k%2 == 1 {
				kind = invalidation.Generation
			}
			item.Values[kind] = append(item.Values[kind], valueNames[k])
		}
		if s.rnd.IntN(2) == 0 {
			item.Every = 2 * time.Second
		}
		f := s.add(m, has)
		if s.rnd.IntN(3) == 0 {
			item.Rule = "collapses"
			step := invalidation.CoarserValues{Over: 3}
			step.Values[invalidation.Tag] = []string{"coarse"}
			item.Coarser = []invalidation.CoarserValues{step}
			f.coarse = true
		}
	}
}

// byHand asks for a manual purge of everything in place of what is there, or of one key.
func (s *schedule) byHand() {
	b := &invalidation.Batch{Sink: "cache", Origin: invalidation.FromHand, Reason: invalidation.FlushManual}
	f := &fact{msg: invalidation.Message{Seq: uint64(len(s.manual) + 1), Batch: b}}
	if s.rnd.IntN(2) == 0 {
		b.Flush, b.Supersedes = true, uint64(len(s.facts))
		f.replaces = b.Supersedes
	} else {
		b.Items = make([]invalidation.Item, 1)
		for k := range keyValues + 1 {
			if s.rnd.IntN(2) == 0 {
				f.lacks |= 1 << k
				b.Items[0].Values[invalidation.Key] = append(b.Items[0].Values[invalidation.Key], valueNames[k])
			}
		}
	}
	f.opened = s.tick()
	s.manual = append(s.manual, f)
}

// open opens the gate of a message.
func (s *schedule) open(f *fact) {
	if f.opened == 0 {
		f.opened = s.tick()
	}
}

// newest is the newest flush that replaces a backlog and is not acknowledged.
func (s *schedule) debt() uint64 {
	for i := len(s.facts); uint64(i) > s.floor; i-- {
		if s.facts[i-1].replaces > 0 {
			return uint64(i)
		}
	}
	return 0
}

// start begins a session from what is acknowledged.
func (s *schedule) start() {
	cfg := Config{
		Name: "cache", Limits: sinks.Limits{Items: 4, OneKind: s.oneKind}, SecondPurge: s.delay, Jitter: func(d time.Duration) time.Duration { return time.Duration(s.rnd.Int64N(int64(d))) },
		Flush: func() (out []invalidation.Invalidation) {
			for _, name := range valueNames[9:12] {
				out = append(out, invalidation.Invalidation{Kind: invalidation.Tag, Value: name})
			}
			return out
		},
	}
	if s.pace {
		cfg.FlushPace, cfg.FlushAtMost = 3*time.Second, 4500*time.Millisecond
	}
	s.m = New(cfg)
	if uint64(len(s.facts)) > s.floor {
		s.m.Inherit(uint64(len(s.facts)))
	}
	if debt := s.debt(); debt > 0 {
		s.m.Trade(debt)
	}
	s.read, s.manualRead, s.turn, s.held = int(s.floor), s.manualDone, nil, false
	for _, f := range s.facts {
		f.state = 0
	}
}

// deliver hands over what the machine takes.
func (s *schedule) deliver() {
	queue, byHand := s.m.Full()
	for !queue && s.read < len(s.facts) {
		f := s.facts[s.read]
		if f.state == 0 {
			r, again := s.m.Add(f.msg)
			if f.state = 1; again {
				f.state = 3
			}
			f.ready = r
		}
		switch {
		case f.state == 1 && (f.opened > 0 || f.msg.Batch == nil):
			f.state = 3
			s.turn = append(s.turn, f.ready)
		case f.state == 1 && s.rnd.IntN(4) == 0: // patience has ended
			f.state = 2
			early := f.ready
			early.Final = false
			s.turn = append(s.turn, early)
		}
		if f.state == 1 {
			break
		}
		s.read++
	}
	for _, f := range s.facts[:s.read] {
		if f.state == 2 && (f.opened > 0) {
			f.state = 3
			s.turn = append(s.turn, f.ready)
		}
	}
	for !byHand && s.manualRead < len(s.manual) && s.m.AcceptsByHand() {
		f := s.manual[s.manualRead]
		s.manualRead++
		if j, again := s.m.AddByHand(f.msg); !again {
			s.m.ArriveByHand(j)
		}
	}
	for len(s.turn) > 0 && s.m.Accepts() {
		s.m.Arrive(s.turn[0])
		s.turn = s.turn[1:]
	}
}

// work lets the machine go on until it waits, and reports false when the process ended in the middle.
func (s *schedule) work() bool {
	e := Event{Kind: Tick}
	for {
		s.deliver()
		effects := s.m.Step(s.now, e)
		if n := len(effects); n > 0 && e.Kind == Tick && s.held && effects[n-1].Verb == Call && !effects[n-1].ByHand {
			s.failf("a call while the lane is held")
		}
		answer := s.perform(effects)
		if s.t.Failed() {
			return false
		}
		if answer != nil {
			if !s.calm && s.rnd.IntN(200) == 0 {
				return false
			}
			e = *answer
			continue
		}
		before := len(s.turn)
		if s.deliver(); before == 0 && len(s.turn) == 0 || !s.m.Accepts() {
			return true
		}
		e = Event{Kind: Tick}
	}
}

// perform carries out effects.
func (s *schedule) perform(effects []Effect) *Event {
	for i, e := range effects {
		switch e.Verb {
		case Call:
			if i+1 < len(effects) {
				s.failf("a call is not the last effect")
			}
			answer := s.call(e.Invs)
			return &answer
		case Park:
			if i+1 < len(effects) {
				s.failf("a parcel is not the last effect")
			}
			answer := Event{Kind: Parked}
			if !s.calm && s.rnd.IntN(3) == 0 {
				answer.Err = errDown
			} else {
				s.parked(e.Batch)
			}
			return &answer
		case Ack:
			s.ack(e)
		case Purged:
			s.whole(uint64(e.Claim.Position.LSN))
		case Settled:
			s.settled(uint64(e.Claim.Position.LSN))
		}
	}
	return nil
}

// call is one call of the sink.
func (s *schedule) call(invs []invalidation.Invalidation) Event {
	s.calls++
	began, at := s.tick(), s.now
	takes, fate := time.Duration(s.rnd.IntN(500))*time.Millisecond, s.rnd.IntN(12)
	if s.calm {
		takes, fate = time.Millisecond, 11
	}
	for range s.rnd.IntN(3) {
		if !s.calm {
			s.happen(s.rnd.IntN(14)) // messages come and gates open meanwhile
		}
	}
	s.now = s.now.Add(takes)
	failed := map[int]error{}
	for i, inv := range invs {
		switch {
		case s.refused[inv.Kind]:
			failed[i] = sinks.LaneError(errDown)
		case fate == 0 || fate == 3 && valueBits[inv.Value]&(badValue|coarseValue) == 0 && s.rnd.IntN(2) == 0:
			failed[i] = errDown
		case fate == 1:
			failed[i] = sinks.ThrottledError(errDown, time.Duration(s.rnd.IntN(5))*time.Second)
		case fate == 2:
			failed[i] = sinks.LaneError(errDown)
		case inv.Value == "bad" || inv.Value == "coarse" && s.coarseRefused:
			failed[i] = sinks.ItemError(errDown)
		}
	}
	out := Event{Kind: Called, Began: at, Took: takes}
	if len(failed) > 0 && (fate%2 == 0 || len(failed) == len(invs) || s.oneKind && fate != 3) {
		for i := range invs {
			if failed[i] != nil {
				out.Err = failed[i]
				return out
			}
		}
	}
	carried := 0
	for i, inv := range invs {
		if failed[i] == nil {
			carried |= valueBits[inv.Value]
		}
	}
	s.carried(began, at, carried)
	if len(failed) > 0 {
		out.Err = &sinks.BatchError{Failed: failed}
	}
	return out
}

// carried notes values that a purge that began at some time has carried out.
func (s *schedule) carried(began int, at time.Time, values int) {
	for _, f := range s.facts {
		covers := values
		switch {
		case values&coarseValue == 0:
		case f.coarse:
			covers |= allKeys
		default:
			covers |= badValue // it is tried in the place of that, whatever rules ask for it
		}
		if f.replaces > 0 {
			f.newest(began, values)
		}
		if f.opened == 0 || f.opened > began || f.lacks|f.again == 0 {
			continue
		}
		f.lacks &^= covers
		for left := f.again & covers; left != 0; left &= left - 1 {
			v := bits.TrailingZeros(uint(left))
			switch then := f.first[v]; {
			case then.IsZero():
				f.first[v] = s.now
			case !at.Before(then.Add(s.delay)):
				f.again &^= 1 << v
			}
		}
	}
	for _, f := range s.manual {
		if f.newest(began, values); f.opened <= began {
			f.lacks &^= values
		}
	}
	for _, from := range [][]*fact{s.facts, s.manual} {
		for _, f := range from {
			if f.replaces == 0 {
				continue
			}
			oldest := min(f.began[9], f.began[10], f.began[11])
			for _, of := range s.facts[:f.replaces] {
				if of.opened > 0 && of.opened <= oldest {
					of.lacks, of.again = 0, 0
				}
			}
		}
	}
}

func (f *fact) newest(began int, values int) {
	for v := 9; v < 12; v++ {
		if values&(1<<v) != 0 {
			f.began[v] = max(f.began[v], began)
		}
	}
}

func (s *schedule) parked(b *invalidation.Batch) {
	for _, inv := range b.Invalidations(nil) {
		v := valueBits[inv.Value]
		if v != badValue && (v != coarseValue || !s.coarseRefused) && b.Stamp.Position.LSN != 0 {
			s.failf("%s was parked", inv.Value)
		}
		for _, from := range [][]*fact{s.facts, s.manual} {
			for _, f := range from {
				of := v
				if v == coarseValue && f.coarse {
					of |= allKeys
				}
				f.lacks &^= of
				f.again &^= of
			}
		}
	}
}

func (s *schedule) ack(e Effect) {
	if e.ByHand {
		s.manualDone = max(s.manualDone, int(e.Seq))
		for n, f := range s.manual[:e.Seq] {
			if f.lacks != 0 {
				s.failf("acknowledged the manual purge %d, where %d lacks %#x", e.Seq, n+1, f.lacks)
			}
		}
		return
	}
	if s.debt() <= e.Seq {
		behind := 0
		for _, f := range s.facts[e.Seq:] {
			behind |= f.has
		}
		for n, f := range s.facts[:e.Seq] {
			if lost := (f.lacks | f.again) &^ behind; lost != 0 {
				s.failf("acknowledged up to %d, where %d lacks %#x of %#x", e.Seq, n+1, f.lacks&^behind, f.again&^behind)
			}
		}
	}
	if s.calm || s.rnd.IntN(5) > 0 { // else it is lost
		s.floor = max(s.floor, e.Seq)
	}
}

func (s *schedule) whole(seq uint64) {
	for n, f := range s.facts[:seq] {
		if f.lacks != 0 {
			s.failf("purged up to %d, and %d lacks %#x", seq, n+1, f.lacks)
		}
	}
}

func (s *schedule) settled(seq uint64) {
	for n, f := range s.facts[:seq] {
		if f.lacks|f.again != 0 {
			s.failf("settled up to %d, and %d lacks %#x, a second time %#x", seq, n+1, f.lacks, f.again)
		}
	}
}

// happen lets something happen beside the machine.
func (s *schedule) happen(what int) {
	switch {
	case what < 8:
		s.push()
	case what < 14:
		if n := len(s.facts); n > 0 {
			s.open(s.facts[s.rnd.IntN(n)])
		}
	case what < 16:
		s.byHand()
	case what < 17 && s.kinds:
		s.refused[[]invalidation.Kind{invalidation.Key, invalidation.Generation, invalidation.Tag}[s.rnd.IntN(3)]] = s.rnd.IntN(3) > 0
	case what < 18 && s.trades:
		f := s.add(invalidation.Message{Seq: uint64(len(s.facts) + 1), Batch: &invalidation.Batch{Sink: "cache", Flush: true, Reason: invalidation.FlushOverflow}}, flushValues)
		f.replaces = f.msg.Seq - 1
		s.m.Trade(f.msg.Seq)
	case what < 19:
		s.held = !s.held
		s.m.Hold(s.held)
	case what < 20:
		s.m.Hasten()
	}
}

func (s *schedule) run() {
	s.start()
	for range 10 + s.rnd.IntN(40) {
		switch p := s.rnd.IntN(30); {
		case p < 20:
			s.happen(p)
		case p < 28:
			s.now = s.now.Add(min(s.m.Wake(s.now), time.Duration(s.rnd.IntN(2000))*time.Millisecond))
		case p < 29:
			s.start()
		default:
			s.m.Stop()
			s.work()
			s.start()
		}
		if !s.work() {
			s.start()
		}
		if s.t.Failed() {
			return
		}
	}
	s.calm, s.refused = true, [invalidation.NumKinds]bool{}
	s.held = false
	s.m.Hold(false)
	s.refused[invalidation.Generation] = s.kinds
	for range 2 { // a manual purge is done when a message behind what it replaces has come
		s.add(claim(uint64(len(s.facts)+1), 1), 0)
		for _, f := range s.facts {
			s.open(f)
		}
		for until := s.now.Add(5 * time.Minute); s.now.Before(until) && s.work() && !s.t.Failed(); {
			s.now = s.now.Add(max(time.Millisecond, s.m.Wake(s.now)))
		}
		if s.refused[invalidation.Generation] {
			for n, f := range s.facts {
				if stuck := f.lacks & evenKeys; stuck != 0 {
					s.failf("%d lacks the keys %#x while generations are refused", n+1, stuck)
				}
			}
			s.refused[invalidation.Generation] = false
		}
	}
	last := uint64(len(s.facts))
	if s.floor != last || s.manualDone != len(s.manual) {
		s.failf("stuck: acknowledged %d of %d, of manual purges %d of %d", s.floor, last, s.manualDone, len(s.manual))
	}
	s.settled(last)
}

// Whatever the order of things: every value is purged at least once by a call that began after the gate of its message had
// opened, or is parked, before the message is acknowledged; and a second time where that is asked for; unless a message
// that is not acknowledged has the value, too; and nothing is stuck.
func TestSchedules(t *testing.T) {
	first, seeds := uint64(0), uint64(4000)
	if n, err := strconv.ParseUint(os.Getenv("WALPURGE_SEEDS"), 10, 64); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("WALPURGE_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	for _, seed := range []uint64{22810, 31917} { // they have found something
		newSchedule(t, seed).run()
	}
	const shards = 4
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			calls := 0
			for seed := first + shard; seed < first+seeds && !t.Failed(); seed += shards {
				s := newSchedule(t, seed)
				s.run()
				calls += s.calls
			}
			require.True(t, seeds == 1 || calls > int(seeds/shards), "the schedules do something")
		})
	}
}
