package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a stream that was filled before, or grows while the lane runs.
type source struct {
	mu        sync.Mutex
	messages  []invalidation.Message
	read      int
	grown     chan struct{}
	acks      []uint64
	announced []uint64
	ackErr    error
}

func (s *source) Next(ctx context.Context) (invalidation.Message, error) {
	for {
		s.mu.Lock()
		if s.read < len(s.messages) {
			m := s.messages[s.read]
			s.read++
			s.mu.Unlock()
			return m, nil
		}
		grown := s.grown
		s.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return invalidation.Message{}, ctx.Err()
		}
	}
}

func (s *source) push(mm ...invalidation.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, mm...)
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *source) Announce(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announced = append(s.announced, seq)
	return nil
}

func (s *source) Ack(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks = append(s.acks, seq)
	return s.ackErr
}

func (s *source) acked() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.acks)
}

// call is one call of a sink.
type call struct {
	at     time.Time
	values []string
	// taken are those that the sink took.
	taken []string
}

// fakeSink writes down its calls and answers as it is told.
type fakeSink struct {
	mu    sync.Mutex
	calls []call
	// takes is how long a call lasts.
	takes time.Duration
	// answer decides what a call returns; nil: always well.
	answer func(invs []invalidation.Invalidation) error
}

func (s *fakeSink) Purge(ctx context.Context, invs []invalidation.Invalidation) error {
	c := call{at: time.Now()}
	for _, inv := range invs {
		c.values = append(c.values, inv.Value)
	}
	s.mu.Lock()
	s.calls = append(s.calls, c)
	this, answer := len(s.calls)-1, s.answer
	s.mu.Unlock()
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	if answer != nil {
		err = answer(invs)
	}
	failed := map[int]error{}
	var batch *sinks.BatchError
	if errors.As(err, &batch) {
		failed = batch.Failed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, inv := range invs {
		if err == nil || batch != nil && failed[i] == nil {
			s.calls[this].taken = append(s.calls[this].taken, inv.Value)
		}
	}
	return err
}

func (s *fakeSink) answers(f func(invs []invalidation.Invalidation) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// values lists what every call was given.
func (s *fakeSink) values() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]string
	for _, c := range s.calls {
		out = append(out, c.values)
	}
	return out
}

// pauses lists the time between the starts of calls.
func (s *fakeSink) pauses() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []time.Duration
	for i := 1; i < len(s.calls); i++ {
		out = append(out, s.calls[i].at.Sub(s.calls[i-1].at))
	}
	return out
}

// fakeGate is open for the messages up to a sequence.
type fakeGate struct {
	mu    sync.Mutex
	upTo  uint64
	moved chan struct{}
}

func newGate() *fakeGate { return &fakeGate{moved: make(chan struct{})} }

func (g *fakeGate) Wait(ctx context.Context, m invalidation.Message) error {
	for {
		g.mu.Lock()
		open, moved := m.Seq <= g.upTo, g.moved
		g.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *fakeGate) open(upTo uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.upTo = upTo
	close(g.moved)
	g.moved = make(chan struct{})
}

// world is a lane and all around it.
type world struct {
	t      require.TestingT
	cfg    Config
	src    *source
	sink   *fakeSink
	board  *watermark.Board
	reg    *prometheus.Registry
	parked []*invalidation.Batch
	// parkErr is what the next attempts to park return.
	parkErr []error

	lane  *Lane
	stop  context.CancelFunc // ends intake
	cut   context.CancelFunc // ends work
	ended chan error
}

func newWorld(t require.TestingT) *world {
	w := &world{
		t: t, src: &source{grown: make(chan struct{})}, sink: &fakeSink{}, reg: prometheus.NewRegistry(),
		board: watermark.NewBoard(watermark.Mark{Stage: watermark.Purged, Target: "cache"}),
	}
	w.cfg = Config{
		Name: "cache", Sink: w.sink, Source: w.src, MaxWait: 30 * time.Second, Board: w.board,
		Flush: func() []invalidation.Invalidation {
			return []invalidation.Invalidation{{Kind: invalidation.KeyPattern, Value: "*", Rule: "flush"}}
		},
		Metrics: NewMetrics(w.reg), Logger: slog.New(slog.DiscardHandler),
		Park: func(_ context.Context, b *invalidation.Batch, _ error) error {
			if len(w.parkErr) > 0 {
				err := w.parkErr[0]
				w.parkErr = w.parkErr[1:]
				if err != nil {
					return err
				}
			}
			w.parked = append(w.parked, b)
			return nil
		},
	}
	w.cfg.Limits.Items = 1000
	return w
}

// run starts the lane; it must be ended by halt.
func (w *world) run() {
	intake, stop := context.WithCancel(context.Background())
	work, cut := context.WithCancel(context.Background())
	w.stop, w.cut = stop, cut
	w.lane = New(w.cfg)
	w.ended = make(chan error, 1)
	go func() { w.ended <- w.lane.Run(intake, work) }()
}

// halt ends the lane and waits for it.
func (w *world) halt() {
	w.stop()
	require.NoError(w.t, <-w.ended)
	w.cut()
}

func (w *world) purged() cdc.LSN {
	return w.board.Get(watermark.Mark{Stage: watermark.Purged, Target: "cache"}).LSN
}

// metric sums the counters, gauges or counts of a name whose label has a value.
func (w *world) metric(name, label string) float64 {
	families, err := w.reg.Gather()
	require.NoError(w.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "walpurge_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
					break
				}
			}
		}
	}
	return sum
}

// inBubble runs a test with a fake clock.
func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// after lets the fake clock run and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// batch is a message with keys; its transaction has the sequence's number.
func batch(seq uint64, keys ...string) invalidation.Message {
	b := &invalidation.Batch{Sink: "cache", Origin: invalidation.FromWAL, Stamp: cdc.Stamp{
		Position: cdc.Position{Timeline: 1, LSN: cdc.LSN(seq)}, XIDs: []uint64{seq}, FirstCommit: time.Now(), LastCommit: time.Now(),
	}}
	if len(keys) > 0 {
		b.Items = []invalidation.Item{{Rule: "r"}}
		b.Items[0].Values[invalidation.Key] = keys
	}
	return invalidation.Message{Seq: seq, Batch: b}
}

// claim is a message that claims everything before it.
func claim(seq, epoch uint64) invalidation.Message {
	return invalidation.Message{Seq: seq, Claim: &cdc.Claim{Epoch: epoch, Position: cdc.Position{Timeline: 1, LSN: cdc.LSN(seq)}}}
}

var errDown = errors.New("connection refused")

// failing fails the first n calls.
func failing(n int, err error) func([]invalidation.Invalidation) error {
	return func([]invalidation.Invalidation) error {
		if n--; n >= 0 {
			return err
		}
		return nil
	}
}

func keys(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("k%d", i)
	}
	return out
}

// newLane is a lane that does not run.
func newLane(t testing.TB) *Lane {
	t.Helper()
	return New(newWorld(t).cfg)
}
