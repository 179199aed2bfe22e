package delivery

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func TestStatusSaysWhichGateAndWhichClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := newGate()
		w.cfg.Gates = []Gate{{Name: "visible", Wait: gate.Wait}}
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			if invs[0].Value == "b" {
				return &sinks.BatchError{Failed: map[int]error{0: sinks.LaneError(errors.New("forbidden"))}}
			}
			return nil
		})
		w.run()
		w.src.push(batch(1, "a"))
		after(2 * time.Second)
		require.Equal(t, Gated, w.lane.Status().State)
		require.Equal(t, []string{"visible"}, w.lane.Status().Gates)
		gate.open(2)
		after(time.Second)
		require.Equal(t, OK, w.lane.Status().State)
		require.Empty(t, w.lane.Status().Gates)
		w.src.push(batch(2, "b"))
		after(time.Second)
		s := w.lane.Status()
		require.Equal(t, []string{"blocked", "lane"}, []string{string(s.State), s.Class})
		w.sink.answers(nil)
		after(time.Minute)
		require.Empty(t, w.lane.Status().Class)
		w.halt()
	})
}

// Every reason has a counter from the start, so that the first flush is an increase.
func TestEveryFlushReasonIsCountedFromTheStart(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewMetrics(reg).lane("edge", nil)
	families, err := reg.Gather()
	require.NoError(t, err)
	var reasons []string
	for _, f := range families {
		if f.GetName() != "walpurge_flushes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					reasons = append(reasons, l.GetValue())
				}
			}
		}
	}
	require.ElementsMatch(t, invalidation.FlushReasons(), reasons)
	require.Contains(t, reasons, "timeline_forked")
}

// gauge is the metric of one of the lane's states.
func gauge(w *world, state string) float64 {
	var m dto.Metric
	require.NoError(w.t, w.cfg.Metrics.state.WithLabelValues("cache", state).Write(&m))
	return m.GetGauge().GetValue()
}

// As long as a gate is closed the lane is gated, whatever is purged early meanwhile: in its
// status and in its metric.
func TestALaneStaysGatedWhileItsGateIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := newGate()
		w.cfg.Gates, w.cfg.MaxWait = []Gate{{Name: "cache", Wait: gate.Wait}}, 5*time.Second
		w.run()
		w.src.push(batch(1, "a"))
		after(1500 * time.Millisecond)
		for seq := uint64(2); seq < 400; seq++ {
			s := w.lane.Status()
			require.Equal(t, Gated, s.State, "message %d", seq)
			require.Equal(t, []string{"cache"}, s.Gates)
			require.InDelta(t, 1, gauge(w, "gated"), 0)
			require.Zero(t, gauge(w, "ok"))
			w.src.push(batch(seq, "a"))
			after(93 * time.Millisecond)
		}
		// A sink that fails is not hidden by a gate.
		w.sink.answers(func([]invalidation.Invalidation) error { return errors.New("down") })
		w.src.push(batch(400, "b"))
		after(time.Second)
		require.Equal(t, Blocked, w.lane.Status().State)
		w.sink.answers(nil)
		after(time.Minute)
		require.Equal(t, Gated, w.lane.Status().State)
		gate.open(400)
		after(time.Second)
		require.Equal(t, OK, w.lane.Status().State)
		w.halt()
	})
}
