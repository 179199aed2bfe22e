package results

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Sample is one request, as far as figures are made of it.
type Sample struct {
	Endpoint     string
	Latency      time.Duration
	Failed, Late bool
}

// StageOf makes the figures of a stage that depend on its requests alone.
func StageOf(name string, rate float64, lasting time.Duration, samples []Sample) Stage {
	s := Stage{Name: name, Rate: math.Round(rate), Seconds: lasting.Seconds(), Requests: len(samples)}
	latencies := map[string][]time.Duration{}
	errors := map[string]int{}
	for _, x := range samples {
		latencies[x.Endpoint] = append(latencies[x.Endpoint], x.Latency)
		if x.Failed {
			errors[x.Endpoint]++
			s.Errors++
		}
		if x.Late {
			s.Late++
		}
	}
	for endpoint, all := range latencies {
		s.Endpoints = append(s.Endpoints, Endpoint{
			Name: endpoint, Requests: len(all), Errors: errors[endpoint],
			P50: Quantile(all, 0.5), P95: Quantile(all, 0.95), P99: Quantile(all, 0.99),
		})
	}
	slices.SortFunc(s.Endpoints, func(a, b Endpoint) int { return b.Requests - a.Requests })
	return s
}

// Quantile returns the smallest duration that the given share of all does not exceed, in
// milliseconds; 0 if all is empty. It sorts all.
func Quantile(all []time.Duration, share float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	at := max(0, int(math.Ceil(share*float64(len(all))))-1)
	return math.Round(all[at].Seconds()*1e6) / 1e3
}

// Bucket is one bucket of a cumulative histogram.
type Bucket struct {
	UpToMS float64
	Count  int
}

// Histogram has its buckets in rising order; the last one is infinite.
type Histogram []Bucket

// Minus returns what was counted after an earlier reading, which may be nil.
func (h Histogram) Minus(earlier Histogram) Histogram {
	out := slices.Clone(h)
	for i := range earlier {
		out[i].Count -= earlier[i].Count
	}
	return out
}

// PurgesOf reads the figures from a histogram.
func PurgesOf(h Histogram) Purges {
	if len(h) == 0 {
		return Purges{}
	}
	return Purges{Count: h[len(h)-1].Count, P50: h.upTo(0.5), P99: h.upTo(0.99)}
}

// upTo is the upper bound of the bucket with the quantile. In the infinite one it is the greatest
// bound that there is.
func (h Histogram) upTo(share float64) float64 {
	want := share * float64(h[len(h)-1].Count)
	for i, b := range h {
		if float64(b.Count) >= want && b.Count > 0 {
			if math.IsInf(b.UpToMS, 1) && i > 0 {
				return h[i-1].UpToMS
			}
			return b.UpToMS
		}
	}
	return 0
}

// PointOf is a stage's point in the chart.
func PointOf(label string, s Stage) Point {
	return Point{Label: label, HitRate: s.HitRate, Stale: s.Stale.Share(), Over1s: s.Stale.ShareOver1s()}
}

// LateShare is the share of requests that may be late before a run is void.
const LateShare = 0.05

// TooLate says that the generator was the limit of a stage, and is empty if it was not.
func (s Stage) TooLate() string {
	if s.Requests == 0 {
		return "no request was sent"
	}
	if share := float64(s.Late) / float64(s.Requests); share > LateShare {
		return fmt.Sprintf("the generator sent %.1f %% of the requests late", 100*share)
	}
	return ""
}

// BypassStale is the share of responses in variant 2+bypass that must be stale, or the load shows
// nothing.
const BypassStale = 0.005

// Void returns why the figures do not count.
func Void(r Results) (out []string) {
	for _, v := range r.Variants {
		for _, s := range v.Stages {
			if why := s.TooLate(); why != "" {
				out = append(out, fmt.Sprintf("variant %s, stage %s: %s", v.Name, s.Name, why))
			}
			if v.Name == "2+bypass" && s.Stale.Share() < BypassStale {
				out = append(out, fmt.Sprintf("variant %s, stage %s: %.2f %% of the responses were stale, and less than %.1f %% shows nothing", v.Name, s.Name, 100*s.Stale.Share(), 100*BypassStale))
			}
		}
	}
	return out
}
