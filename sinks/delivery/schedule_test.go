package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// schedule is a lane's surroundings under a seed: when messages come and gates
// open, what the sink answers, which acknowledgements get lost, when the lane is
// stopped and started again. It knows what each message still lacks.
type schedule struct {
	mu    sync.Mutex
	t     testing.TB
	seed  uint64
	steps *rand.Rand // what happens next
	rnd   *rand.Rand // how the surroundings answer; guarded by mu
	clock int        // counts events; what begins later has a larger number

	messages []invalidation.Message
	read     int
	changed  chan struct{}
	floor    uint64 // acknowledged, as the server knows it
	opened   map[uint64]int
	visible  map[uint64]bool
	inner    uint64 // the lane before this one is past it
	// lacks holds the values of a batch that no purge has carried out since its
	// gate opened.
	lacks map[uint64]map[string]bool
	// delay is that of second purges, 0 without; first says when a value of a batch
	// was carried out, zero before, and has it until that was done again.
	delay time.Duration
	first map[uint64]map[string]time.Time
	pace  time.Duration // of flushes
	// trades: the backlog is traded at times; traded has for the flushes that stand
	// for one when the newest purge of each of their values began.
	trades bool
	traded map[uint64]map[string]int
	calm   bool // the sink and the way to it are well
	// manual has the manual purges of everything, each in place of what was there, manualAt when the newest
	// purge of each of their values began; manualDone of them are acknowledged.
	manual     []invalidation.Message
	manualAt   []map[string]int
	manualDone int
	// kinds: half of the keys are tags, and the sink refuses a kind at times; oneKind: in calls of
	// one kind. Once the rest is calm, refused is refused for some more time.
	kinds, oneKind bool
	refused        map[invalidation.Kind]bool
	board          *watermark.Board
	purges         int
}

func (s *schedule) tick() int { s.clock++; return s.clock }

func (s *schedule) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *schedule) failf(format string, args ...any) {
	s.t.Errorf("seed %d: "+format, append([]any{s.seed}, args...)...)
}

func (s *schedule) push() {
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := uint64(len(s.messages) + 1)
	if s.rnd.IntN(3) == 0 {
		s.messages = append(s.messages, claim(seq, 1))
	} else if s.rnd.IntN(12) == 0 {
		m := batch(seq)
		m.Batch.Flush = true
		s.messages = append(s.messages, m)
		s.lacks[seq] = map[string]bool{"f1": true, "f2": true, "f3": true}
	} else {
		var kk []string
		lacks := map[string]bool{}
		for range 1 + s.rnd.IntN(3) {
			k := fmt.Sprintf("k%d", s.rnd.IntN(8))
			if s.rnd.IntN(20) == 0 {
				k = "bad"
			}
			if !lacks[k] {
				kk, lacks[k] = append(kk, k), true
			}
		}
		m := batch(seq, kk...)
		if s.kinds {
			values := &m.Batch.Items[0].Values
			values[invalidation.Key], values[invalidation.Generation] = nil, nil
			for _, k := range kk {
				kind := invalidation.Key
				if k[len(k)-1]%2 == 1 {
					kind = invalidation.Generation
				}
				values[kind] = append(values[kind], k)
			}
		}
		if s.rnd.IntN(2) == 0 {
			every(m, 2*time.Second)
		}
		s.messages = append(s.messages, m)
		s.lacks[seq] = lacks
		if s.delay > 0 {
			s.first[seq] = map[string]time.Time{}
			for k := range lacks {
				s.first[seq][k] = time.Time{}
			}
		}
	}
	s.wake()
}

// manually asks for a manual purge of everything in place of what is there.
func (s *schedule) manually() {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := invalidation.Message{Seq: uint64(len(s.manual) + 1), Batch: &invalidation.Batch{Sink: "cache", Origin: invalidation.FromHand, Flush: true,
		Reason: invalidation.FlushManual, Supersedes: uint64(len(s.messages))}}
	s.manual, s.manualAt = append(s.manual, m), append(s.manualAt, map[string]int{})
	s.wake()
}

// manualSource is where one lane reads the manual purges.
type manualSource struct {
	s    *schedule
	read int
}

func (m *manualSource) Next(ctx context.Context) (next invalidation.Message, err error) {
	m.s.mu.Lock()
	m.read = max(m.read, m.s.manualDone)
	m.s.mu.Unlock()
	err = m.s.wait(ctx, func() bool { return m.read < len(m.s.manual) })
	if err == nil {
		m.s.mu.Lock()
		defer m.s.mu.Unlock()
		next = m.s.manual[m.read]
		m.read++
	}
	return next, err
}

func (m *manualSource) Announce(uint64) error { return nil }

func (m *manualSource) Ack(seq uint64) error {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.manualDone = max(m.s.manualDone, int(seq))
	return nil
}

// open lets a message be visible, or the inner lane get as far as a message.
func (s *schedule) open(seq uint64, visible bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if visible {
		s.visible[seq] = true
	} else {
		s.inner = max(s.inner, seq)
	}
	for seq := range s.visible {
		if s.opened[seq] == 0 && seq <= s.inner {
			s.opened[seq] = s.tick()
		}
	}
	s.wake()
}

func (s *schedule) Next(ctx context.Context) (invalidation.Message, error) {
	for {
		s.mu.Lock()
		if !s.calm && s.rnd.IntN(30) == 0 {
			s.read = int(s.floor) // the consumer starts over
		}
		if s.read < len(s.messages) {
			m := s.messages[s.read]
			s.read++
			s.mu.Unlock()
			return m, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return invalidation.Message{}, ctx.Err()
		}
	}
}

func (s *schedule) Announce(uint64) error { return nil }

func (s *schedule) Ack(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.debt() <= seq {
		s.held(seq)
	}
	if !s.calm && s.rnd.IntN(5) == 0 {
		return errors.New("lost")
	}
	s.floor = max(s.floor, seq)
	return nil
}

// whole fails the test if a message up to seq lacks something.
func (s *schedule) whole(seq uint64, what string) {
	for below := uint64(1); below <= seq; below++ {
		if len(s.lacks[below]) > 0 {
			s.failf("%s up to %d, and %d lacks %v", what, seq, below, s.lacks[below])
		}
	}
}

// held fails the test if a message up to seq lacks a value that no message behind it carries. What is
// behind the floor comes again after a crash, and is purged then, whether it still lacks the value or
// another purge has covered it meanwhile.
func (s *schedule) held(seq uint64) {
	behind := map[string]bool{}
	for _, m := range s.messages[seq:] {
		if m.Batch != nil {
			for _, inv := range m.Batch.Invalidations(nil) {
				behind[inv.Value] = true
			}
		}
	}
	for n := uint64(1); n <= seq; n++ {
		for v := range s.lacks[n] {
			if !behind[v] {
				s.failf("acknowledged up to %d, where %s is to be purged", seq, v)
			}
		}
		for v := range s.first[n] {
			if !behind[v] {
				s.failf("acknowledged up to %d, where %s is to be purged a second time", seq, v)
			}
		}
	}
}

// debt is the newest flush that replaces a backlog and is not acknowledged.
func (s *schedule) debt() (newest uint64) {
	for seq := range s.traded {
		if seq > s.floor {
			newest = max(newest, seq)
		}
	}
	return newest
}

func (s *schedule) backlog(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calm || s.rnd.IntN(6) > 0 {
		return 0, nil
	}
	return 2, nil
}

func (s *schedule) storeFlush(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := uint64(len(s.messages) + 1)
	s.messages = append(s.messages, flush(seq, "overflow"))
	s.lacks[seq] = map[string]bool{"f1": true, "f2": true, "f3": true}
	s.traded[seq] = map[string]int{}
	s.wake()
	return seq, nil
}

// stood lets flushes that are done replace what was open when they began.
func (s *schedule) stood() {
	replace := func(upTo uint64, at map[string]int) {
		began := min(at["f1"], at["f2"], at["f3"])
		for seq := uint64(1); seq <= upTo; seq++ {
			if at := s.opened[seq]; at > 0 && at <= began {
				delete(s.lacks, seq)
				delete(s.first, seq)
			}
		}
	}
	for f, at := range s.traded {
		replace(f-1, at)
	}
	for i, m := range s.manual {
		replace(m.Batch.Supersedes, s.manualAt[i])
	}
}

// twice fails the test if a message up to seq lacks a second purge.
func (s *schedule) twice(seq uint64, what string) {
	for below := uint64(1); below <= seq; below++ {
		if len(s.first[below]) > 0 {
			s.failf("%s up to %d, and %d was not purged twice: %v", what, seq, below, s.first[below])
		}
	}
}

// carried notes values that a purge that began at some time has carried out.
func (s *schedule) carried(began int, at time.Time, values ...string) {
	for seq, first := range s.first {
		if opened := s.opened[seq]; opened == 0 || opened > began {
			continue
		}
		for _, v := range values {
			switch then, lacks := first[v]; {
			case lacks && then.IsZero():
				first[v] = time.Now()
			case lacks && !at.Before(then.Add(s.delay)):
				delete(first, v)
			}
		}
	}
	for seq, lacks := range s.lacks {
		if at := s.opened[seq]; at == 0 || at > began {
			continue
		}
		for _, v := range values {
			if at := s.traded[seq]; at != nil {
				at[v] = max(at[v], began)
			}
			delete(lacks, v)
		}
	}
	for i := range s.manual {
		for _, v := range values {
			s.manualAt[i][v] = max(s.manualAt[i][v], began)
		}
	}
	s.stood()
}

func (s *schedule) waitVisible(ctx context.Context, m invalidation.Message) error {
	return s.wait(ctx, func() bool { return s.visible[m.Seq] })
}

func (s *schedule) waitInner(ctx context.Context, m invalidation.Message) error {
	return s.wait(ctx, func() bool { return m.Seq <= s.inner })
}

func (s *schedule) wait(ctx context.Context, met func() bool) error {
	for {
		s.mu.Lock()
		open, changed := met(), s.changed
		s.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *schedule) Purge(ctx context.Context, invs []invalidation.Invalidation) error {
	s.mu.Lock()
	s.purges++
	began, at := s.tick(), time.Now()
	takes := time.Duration(s.rnd.IntN(500)) * time.Millisecond
	fate := s.rnd.IntN(12)
	if s.calm {
		takes, fate = time.Millisecond, 11
	}
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed := s.refuses(invs); len(failed) > 0 {
		if s.oneKind || fate%2 == 0 || len(failed) == len(invs) {
			return failed[slices.Min(slices.Collect(maps.Keys(failed)))]
		}
		for i, inv := range invs {
			switch {
			case failed[i] != nil:
			case inv.Value == "bad":
				failed[i] = sinks.ItemError(errDown)
			default:
				s.carried(began, at, inv.Value)
			}
		}
		return &sinks.BatchError{Failed: failed}
	}
	switch fate {
	case 0:
		return errDown
	case 1:
		return sinks.ThrottledError(errDown, time.Duration(s.rnd.IntN(5))*time.Second)
	case 2:
		return sinks.LaneError(errDown)
	case 3:
		failed := map[int]error{}
		for i, inv := range invs {
			switch {
			case inv.Value == "bad":
				failed[i] = sinks.ItemError(errDown)
			case s.rnd.IntN(2) == 0:
				failed[i] = errDown
			default:
				s.carried(began, at, inv.Value)
			}
		}
		if len(failed) > 0 {
			return &sinks.BatchError{Failed: failed}
		}
		return nil
	}
	if err := refuses("bad")(invs); err != nil {
		return err
	}
	for _, inv := range invs {
		s.carried(began, at, inv.Value)
	}
	return nil
}

// refuses returns the errors of the invalidations whose kinds are refused now.
func (s *schedule) refuses(invs []invalidation.Invalidation) map[int]error {
	failed := map[int]error{}
	for i, inv := range invs {
		if s.refused[inv.Kind] {
			failed[i] = sinks.LaneError(errDown)
		}
	}
	return failed
}

func (s *schedule) park(_ context.Context, b *invalidation.Batch, _ error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.calm && s.rnd.IntN(3) == 0 {
		return errDown
	}
	for _, inv := range b.Invalidations(nil) {
		if inv.Kind == invalidation.Tag && b.Stamp.Position.LSN == 0 {
			continue // of a manual purge
		}
		if inv.Value != "bad" {
			s.failf("%s was parked", inv.Value)
		}
		for seq, lacks := range s.lacks {
			delete(lacks, inv.Value)
			delete(s.first[seq], inv.Value)
		}
	}
	return nil
}

// session starts a lane from the floor and returns what stops it.
func (s *schedule) session(metrics *Metrics) (halt func()) {
	s.mu.Lock()
	s.read = int(s.floor)
	s.mu.Unlock()
	var overflow Overflow
	if s.trades {
		overflow = Overflow{MaxBacklog: 1, Backlog: s.backlog, StoreFlush: s.storeFlush, PendingFlush: s.debt()}
	}
	lane := New(Config{
		Overflow: overflow,
		Name:     "cache", Sink: s, Source: s, Hand: &manualSource{s: s}, Limits: sinks.Limits{Items: 4, OneKind: s.oneKind}, MaxWait: 3 * time.Second, SecondPurge: s.delay, Board: s.board,
		Gates: []Gate{{Name: "visible", Wait: s.waitVisible}, {Name: "inner", Wait: s.waitInner, Ordered: true}}, Park: s.park, Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
		Flush: func() []invalidation.Invalidation {
			return []invalidation.Invalidation{{Kind: invalidation.Tag, Value: "f1"}, {Kind: invalidation.Tag, Value: "f2"}, {Kind: invalidation.Tag, Value: "f3"}}
		},
		FlushPace: s.pace, FlushAtMost: s.pace / 2 * 3,
	})
	intake, stop := context.WithCancel(context.Background())
	work, cut := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- lane.Run(intake, work) }()
	return func() {
		stop()
		if s.steps.IntN(2) == 0 {
			cut() // a crash, as far as the sink is concerned
		}
		if err := <-ended; err != nil {
			s.failf("lane: %v", err)
		}
		cut()
	}
}

func (s *schedule) run(metrics *Metrics) {
	halt := s.session(metrics)
	for range 10 + s.steps.IntN(40) {
		switch p := s.steps.IntN(20); {
		case p < 8:
			s.push()
		case p < 14:
			if n := len(s.messages); n > 0 {
				s.open(1+s.steps.Uint64N(uint64(n)), s.steps.IntN(4) > 0)
			}
		case p < 15 && s.kinds:
			s.mu.Lock()
			s.refused = map[invalidation.Kind]bool{[]invalidation.Kind{invalidation.Key, invalidation.Generation, invalidation.Tag}[s.steps.IntN(3)]: s.steps.IntN(3) > 0}
			s.mu.Unlock()
		case p < 16:
			s.manually()
		case p < 19:
			time.Sleep(time.Duration(s.steps.IntN(2000)) * time.Millisecond)
		default:
			halt()
			halt = s.session(metrics)
		}
		synctest.Wait()
		s.mu.Lock()
		s.whole(uint64(s.board.Get(watermark.Mark{Stage: watermark.Purged, Target: "cache"}).LSN), "purged")
		s.twice(uint64(s.board.Get(watermark.Mark{Stage: watermark.Settled, Target: "cache"}).LSN), "settled")
		s.mu.Unlock()
	}
	for seq := range s.messages {
		s.open(uint64(seq+1), true)
		s.open(uint64(seq+1), false)
	}
	s.mu.Lock()
	s.calm = true
	s.messages = append(s.messages, claim(uint64(len(s.messages)+1), 1))
	s.wake()
	s.mu.Unlock()
	if s.kinds {
		s.mu.Lock()
		s.refused = map[invalidation.Kind]bool{invalidation.Generation: true}
		s.mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		for seq := range s.lacks {
			for v := range s.lacks[seq] {
				if m := s.messages[seq-1]; slices.Contains(m.Batch.Invalidations(nil), invalidation.Invalidation{Kind: invalidation.Key, Value: v, Rule: "r"}) {
					s.failf("%d lacks the key %s while generations are stuck", seq, v)
				}
			}
		}
		s.refused = nil
		s.mu.Unlock()
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	halt()
	last := uint64(len(s.messages))
	s.whole(last, "at the end")
	if p := s.board.Get(watermark.Mark{Stage: watermark.Purged, Target: "cache"}).LSN; p != cdc.LSN(last) || s.floor != last {
		s.failf("stuck: purged %d, acknowledged %d of %d", p, s.floor, last)
	}
}

// Whatever the order of things, also while the sink refuses one kind of value: every invalidation is purged at least once by a
// purge begun after its gate opened, or parked, before it is acknowledged, and
// then a second time where that was asked for, unless a message that is not has
// yet to be purged for the same value; and nothing is stuck. The machine's own schedules are many more; these have real
// goroutines around it.
func TestSchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		purges := 0
		metrics := NewMetrics(prometheus.NewRegistry())
		for seed := range uint64(800) {
			s := &schedule{
				t: t, seed: seed, steps: rand.New(rand.NewPCG(seed, 1)), rnd: rand.New(rand.NewPCG(seed, 2)), changed: make(chan struct{}),
				opened: map[uint64]int{}, visible: map[uint64]bool{}, lacks: map[uint64]map[string]bool{}, board: watermark.NewBoard(),
				first: map[uint64]map[string]time.Time{}, delay: time.Duration(seed%3) * 700 * time.Millisecond,
				pace:   time.Duration(seed/3%2) * 3 * time.Second,
				trades: seed/6%2 == 1, kinds: seed/12%2 == 1, oneKind: seed/24%2 == 1, traded: map[uint64]map[string]int{},
			}
			s.run(metrics)
			purges += s.purges
			if t.Failed() {
				t.FailNow()
			}
		}
		require.Greater(t, purges, 4000, "the schedules do something")
	})
}
