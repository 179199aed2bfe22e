package app

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// The counters are found by their names, which router and lanes give them.
func TestReadWork(t *testing.T) {
	set, err := rules.Parse("rules.yaml", []byte(catalog+"  - {name: by-hand, message: cache.purge, sinks: [cache]}\n"),
		rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}}})
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": "shop"}, reg)
	routing := router.NewMetrics(labelled)
	router.New(router.Config{Rules: set, Sinks: []string{"cache"}, Metrics: routing})
	delivery.New(delivery.Config{Name: "cache", Metrics: delivery.NewMetrics(labelled), Board: watermark.NewBoard()})
	w, err := readWork(reg)
	require.NoError(t, err)
	require.Equal(t, []status.Rule{{Name: "product", Of: "public.products"}, {Name: "by-hand", Of: "cache.purge"}}, w.of(set))
	require.Zero(t, w.changes)
	require.Contains(t, w.sinks, "cache")
}
