package results

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

func TestStageOf(t *testing.T) {
	var samples []Sample
	for i := range 100 {
		samples = append(samples, Sample{Endpoint: "menu", Latency: time.Duration(100-i) * time.Millisecond, Failed: i < 3, Late: i%10 == 0})
	}
	samples = append(samples, Sample{Endpoint: "order", Latency: time.Second})
	s := StageOf("peak", 50.4, 2*time.Second, samples)
	require.Equal(t, 101, s.Requests)
	require.Equal(t, 3, s.Errors)
	require.Equal(t, 10, s.Late)
	require.Equal(t, []Endpoint{
		{Name: "menu", Requests: 100, Errors: 3, P50: 50, P95: 95, P99: 99},
		{Name: "order", Requests: 1, P50: 1000, P95: 1000, P99: 1000},
	}, s.Endpoints)
	require.Zero(t, Quantile(nil, 0.5))
}

func TestTooLate(t *testing.T) {
	require.Empty(t, Stage{Requests: 1000, Late: 50}.TooLate())
	require.Contains(t, Stage{Requests: 1000, Late: 51}.TooLate(), "5.1 %")
	require.NotEmpty(t, Stage{}.TooLate())
}

func TestPurgesOf(t *testing.T) {
	h := Histogram{{5, 100}, {10, 190}, {25, 199}, {math.Inf(1), 200}}
	require.Equal(t, Purges{Count: 200, P50: 5, P99: 25}, PurgesOf(h))
	require.Equal(t, Purges{Count: 100, P50: 10, P99: 10}, PurgesOf(h.Minus(Histogram{{5, 90}, {10, 90}, {25, 99}, {math.Inf(1), 100}})))
	require.Equal(t, 25.0, PurgesOf(Histogram{{25, 0}, {math.Inf(1), 4}}).P50)
	require.Zero(t, PurgesOf(nil))
}

// sample has two variants and the points of four TTLs.
func sample() Results {
	stage := func(hit, stale float64, queries float64) Stage {
		return Stage{
			Name: "peak", Rate: 600, Seconds: 12, Requests: 7200, HitRate: hit, ValkeyHitRate: hit / 2, EdgeHitRate: -1, QueriesPerReq: queries,
			Stale:     oracle.Staleness{Responses: 7000, Stale: int(7000 * stale), Over1s: int(3500 * stale), Oldest: 3 * time.Second},
			Endpoints: []Endpoint{{Name: "menu", Requests: 7200, P50: 1, P95: 2, P99: 3}},
		}
	}
	return Results{
		Schema: Schema, Scenario: "restaurant", Version: "v1", Factor: 10, Peak: "peak",
		Variants: []Variant{
			{Name: "1", Title: "TTL only", Stages: []Stage{stage(0.8, 0.1, 0.2)}},
			{Name: "2+bypass", Title: "deletes", Stages: []Stage{stage(0.75, 0.01, 0.25)}},
			{Name: "3", Title: "walpurge <1 h>", Stages: []Stage{stage(0.9, 0, 0.1)}},
		},
		Points: []Point{{"TTL 1 s", 0.3, 0.01, 0}, {"TTL 300 s", 0.85, 0.3, 0.2}},
		Cost:   &Cost{WALPerRow: map[string]float64{"full": 200}},
	}
}

// The chart is XML, and its points lie within it, the better ones lower and further to the right.
func TestChart(t *testing.T) {
	svg := Chart(sample())
	d := xml.NewDecoder(strings.NewReader(svg))
	circles := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	require.Equal(t, 5, circles)
	require.Contains(t, svg, "walpurge &lt;1 h&gt;")
	require.Less(t, x(0.5), x(0.6))
	require.Less(t, y(0.1), y(0.01))
	require.Equal(t, y(0), y(lowest))
	require.InDelta(t, top, y(1), 1e-9)
	require.InDelta(t, chartWidth-right, x(2), 1e-9)
}

func TestBeyond(t *testing.T) {
	ttls := sample().Points
	require.True(t, Beyond(Point{HitRate: 0.9}, ttls))
	require.True(t, Beyond(Point{HitRate: 0.5, Stale: 0.005}, ttls))
	require.False(t, Beyond(Point{HitRate: 0.8, Stale: 0.3}, ttls))
	require.False(t, Beyond(Point{HitRate: 0.2, Stale: 0.01}, ttls))
}

func TestReport(t *testing.T) {
	text := Report(sample())
	for _, want := range []string{"| 1: TTL only | peak | 600 | 80.0 % | 40.0 % | - |", "10.0 %", "30.0 s", "lies outside the curve", "![Share"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "void")
	require.NotContains(t, text, "behind")

	lost := sample()
	lost.Variants[2].Stages[0].Endpoints[0].P95 = 9
	lost.Variants[2].Stages[0].HitRate = 0.5
	require.Contains(t, Report(lost), "- peak, p95 of menu: 9.00 ms, 2.00 ms in variant 1")
	require.Contains(t, Report(lost), "lies outside", "it has fewer stale responses than any TTL")
	require.NotContains(t, Report(lost), "older than 1 s with walpurge")
	lost.Variants[2].Stages[0].Stale.Over1s, lost.Variants[2].Stages[0].Stale.Example = 2, "item:7 at version 3"
	require.Contains(t, Report(lost), "- peak: 2, the oldest item:7 at version 3")
	lost.Variants[2].Stages[0].HitRate, lost.Variants[2].Stages[0].Stale.Stale = 0.2, 3000
	require.Contains(t, Report(lost), "**within**")
}

func TestReplaceTable(t *testing.T) {
	readme := "before\n" + tableBegins + "old\n" + tableEnds + "after\n"
	text, err := ReplaceTable(readme, []Results{sample()})
	require.NoError(t, err)
	require.Contains(t, text, "\n| [restaurant](deploy/examples/restaurant/README.md) | 10.0 %, 5.0 %, 80.0 % | 1.0 %, 0.50 %, 75.0 % | 0, 0, 90.0 % | 0.20, 0.25, 0.10 |\n"+tableEnds+"after\n")
	require.NotContains(t, text, "old")
	again, err := ReplaceTable(text, []Results{sample()})
	require.NoError(t, err)
	require.Equal(t, text, again)
	text, err = ReplaceTable(readme, nil)
	require.NoError(t, err)
	require.Contains(t, text, "No report is committed yet")
	_, err = ReplaceTable("", nil)
	require.ErrorContains(t, err, "lacks the line")
	_, err = ReplaceTable(readme, []Results{{Scenario: "x"}})
	require.ErrorContains(t, err, "variant 1")
}

func TestShare(t *testing.T) {
	for want, is := range map[string][2]int{"0": {0, 10}, "50.0 %": {1, 2}, "0.10 %": {1, 1000}, "0.0010 %": {1, 100_000}, "100.0 %": {3, 3}} {
		require.Equal(t, want, share(is[0], is[1]))
	}
}

func TestVoid(t *testing.T) {
	r := sample()
	require.Empty(t, Void(r))
	r.Variants[0].Stages[0].Late = 800
	r.Variants[1].Stages[0].Stale.Stale = 10
	require.Len(t, Void(r), 2)
}
