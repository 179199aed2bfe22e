package delivery

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
)

func TestStatusSaysWhichGateAndWhichClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := newGate()
		w.cfg.Gates = []Gate{{Name: "visible", Wait: gate.Wait}}
		w.sink.answers(func(invs []rules.Invalidation) error {
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
	require.ElementsMatch(t, rules.FlushReasons(), reasons)
	require.Contains(t, reasons, "timeline_forked")
}
