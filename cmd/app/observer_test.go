package app

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/valkey"
	"github.com/walpurge/walpurge/sinks/varnish"
	"github.com/walpurge/walpurge/sinks/webhook"
)

// recordingObserver records what a sink asks for when it is opened.
type recordingObserver struct {
	sinkObserver
	asked []string
}

func (o *recordingObserver) Hits(values string) func(rule string, existed, absent int) {
	o.asked = append(o.asked, "hits of "+values)
	return o.sinkObserver.Hits(values)
}

func (o *recordingObserver) Published() func(ok bool) {
	o.asked = append(o.asked, "published")
	return o.sinkObserver.Published()
}

func (o *recordingObserver) Pages() func(url string, existed bool) {
	o.asked = append(o.asked, "pages")
	return o.sinkObserver.Pages()
}

// TestSinksAskTheirObserver: each kind asks for the counts that it has, and Valkey for those of its
// channel only where it has one, so that the metric has no series for other sinks.
func TestSinksAskTheirObserver(t *testing.T) {
	plain := valkey.DefaultConfig()
	plain.URL = "valkey://127.0.0.1:1"
	publishing := plain
	publishing.Publish.Channel = "invalidations"
	nodes := varnish.DefaultConfig()
	nodes.Nodes = []string{"http://127.0.0.1:1"}
	service := webhook.DefaultConfig()
	service.URL = "http://127.0.0.1:1"
	for _, c := range []struct {
		config sinks.Config
		asked  []string
	}{
		{&plain, []string{"hits of keys"}},
		{&publishing, []string{"hits of keys", "published"}},
		{&nodes, []string{"hits of tags", "pages"}},
		{&service, []string{"hits of values", "pages"}},
	} {
		observer := &recordingObserver{sinkObserver: sinkObserver{hits: newHits(prometheus.NewRegistry()), sink: "cache"}}
		made, err := newTarget(config.Sink{Name: "cache", Config: c.config}, observer, slog.New(slog.DiscardHandler))
		require.NoError(t, err, c.config.Kind())
		made.Close()
		require.Equal(t, c.asked, observer.asked, c.config.Kind())
	}
}
