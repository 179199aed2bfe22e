package app

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/sinks/cloudfront"
	"github.com/walpurge/walpurge/sinks/valkey"
)

func TestBillsAreExposed(t *testing.T) {
	var targets []target
	cdn := cloudfront.DefaultConfig()
	cdn.DistributionID = "E2EXAMPLE1234"
	cache := valkey.DefaultConfig()
	cache.URL = "valkey://cache"
	for _, spec := range []config.Sink{{Name: "cache", Config: &cache}, {Name: "cdn", Config: &cdn}, {Name: "cdn2", Config: &cdn}} {
		made, err := newTarget(spec, nil, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer made.Close()
		targets = append(targets, made)
	}
	require.Nil(t, targets[0].Billed)
	targets[2].Billed = func() int64 { return 7 }
	reg := prometheus.NewRegistry()
	registerBills(reg, targets)
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	require.Equal(t, "walpurge_cloudfront_paths_total", families[0].GetName())
	seen := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		seen[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	require.Equal(t, map[string]float64{"cdn": 0, "cdn2": 7}, seen)
}
