package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Measured is what the gate has run: variants 1 and 3 in turn, and 2+bypass once, at a fixed rate.
type Measured struct {
	TTL, Walpurge []Stage
	Bypass        Stage
}

// Bounds is the content of bounds.json: what the gate measured when it was written.
type Bounds struct {
	// TTL and Walpurge are of variants 1 and 3.
	TTL      Counts `json:"ttl"`
	Walpurge Counts `json:"walpurge"`
	// P95Ratio is the p95 of variant 3 by that of variant 1, the median of the alternations.
	P95Ratio float64 `json:"p95_ratio"`
}

// Counts are medians over the alternations.
type Counts struct {
	HitRate         float64        `json:"hit_rate"`
	QueriesPerReq   float64        `json:"queries_per_request"`
	APICallsPerSink map[string]int `json:"api_calls,omitempty"`
}

// What the gate allows.
const (
	hitRatePoints = 0.02 // below the bound
	queriesShare  = 0.05 // above the bound
	callsShare    = 0.25 // above or below the bound: batches depend on how writes meet
	p95Share      = 0.25 // above the bound
)

// BoundsOf makes bounds of what was measured.
func BoundsOf(m Measured) Bounds {
	return Bounds{TTL: countsOf(m.TTL), Walpurge: countsOf(m.Walpurge), P95Ratio: round(p95Ratio(m), 3)}
}

func countsOf(stages []Stage) Counts {
	of := func(f func(Stage) float64) float64 {
		var all []float64
		for _, s := range stages {
			all = append(all, f(s))
		}
		return median(all)
	}
	c := Counts{HitRate: round(of(func(s Stage) float64 { return s.HitRate }), 4), QueriesPerReq: round(of(func(s Stage) float64 { return s.QueriesPerReq }), 4)}
	for _, s := range stages {
		for sink := range s.APICalls {
			if c.APICallsPerSink == nil {
				c.APICallsPerSink = map[string]int{}
			}
			c.APICallsPerSink[sink] = int(of(func(s Stage) float64 { return float64(s.APICalls[sink]) }))
		}
	}
	return c
}

// p95Ratio is the median, over the alternations, of the p95 of variant 3 by that of variant 1. The
// p95 of a stage is that of its endpoint with the most requests.
func p95Ratio(m Measured) float64 {
	var ratios []float64
	for i := range min(len(m.TTL), len(m.Walpurge)) {
		if a, b := m.TTL[i], m.Walpurge[i]; len(a.Endpoints) > 0 && len(b.Endpoints) > 0 && a.Endpoints[0].P95 > 0 {
			if e, ok := b.Endpoint(a.Endpoints[0].Name); ok {
				ratios = append(ratios, e.P95/a.Endpoints[0].P95)
			}
		}
	}
	return median(ratios)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[(len(all)-1)/2]
}

func round(f float64, digits int) float64 {
	scale := math.Pow(10, float64(digits))
	return math.Round(f*scale) / scale
}

// ParseBounds reads bounds.json, strictly.
func ParseBounds(raw []byte) (b Bounds, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return b, err
	}
	if b.TTL.HitRate == 0 || b.Walpurge.HitRate == 0 || len(b.Walpurge.APICallsPerSink) == 0 || b.P95Ratio == 0 {
		return b, errors.New("a bound is missing or 0; write the file with -write-bounds")
	}
	return b, nil
}

// Verdict is what the gate says.
type Verdict struct {
	// Lines are all comparisons, Failed those that went wrong. Void says why the run shows nothing.
	Lines, Failed, Void []string
}

// Err is nil if the run was valid and within its bounds.
func (v Verdict) Err() error {
	switch {
	case len(v.Void) > 0:
		return errors.New("the gate's run is void: " + strings.Join(v.Void, "; "))
	case len(v.Failed) > 0:
		return errors.New("the gate is red: " + strings.Join(v.Failed, "; "))
	}
	return nil
}

func (v Verdict) String() string { return strings.Join(v.Lines, "\n") + "\n" }

// Compare compares what the gate measured with the bounds.
func Compare(b Bounds, m Measured) Verdict {
	var v Verdict
	check := func(ok bool, format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if ok {
			v.Lines = append(v.Lines, "ok    "+line)
			return
		}
		v.Lines = append(v.Lines, "RED   "+line)
		v.Failed = append(v.Failed, line)
	}
	now := BoundsOf(m)
	for _, c := range []struct {
		name     string
		is, want Counts
	}{{"TTL only", now.TTL, b.TTL}, {"walpurge", now.Walpurge, b.Walpurge}} {
		check(c.is.HitRate >= c.want.HitRate-hitRatePoints, "%s: hit rate %.1f %%, at least %.1f %%", c.name, 100*c.is.HitRate, 100*(c.want.HitRate-hitRatePoints))
		check(c.is.QueriesPerReq <= c.want.QueriesPerReq*(1+queriesShare), "%s: %.3f queries per request, at most %.3f", c.name, c.is.QueriesPerReq, c.want.QueriesPerReq*(1+queriesShare))
	}
	for _, sink := range slices.Sorted(maps.Keys(b.Walpurge.APICallsPerSink)) {
		is, want := float64(now.Walpurge.APICallsPerSink[sink]), float64(b.Walpurge.APICallsPerSink[sink])
		check(is >= want*(1-callsShare) && is <= want*(1+callsShare), "walpurge: %.0f calls of sink %s, %.0f to %.0f", is, sink, want*(1-callsShare), want*(1+callsShare))
	}
	old, example := 0, ""
	for _, s := range m.Walpurge {
		if old += s.Stale.Over1s; s.Stale.Over1s > 0 {
			example = ": " + s.Stale.Example
		}
	}
	check(old == 0, "walpurge: %d responses older than 1 s, at most 0%s", old, example)
	check(now.P95Ratio <= b.P95Ratio*(1+p95Share), "p95 of walpurge by TTL only %.2f, at most %.2f", now.P95Ratio, b.P95Ratio*(1+p95Share))

	v.Void = append(v.Void, voidOf("TTL only", m.TTL...)...)
	v.Void = append(v.Void, voidOf("walpurge", m.Walpurge...)...)
	v.Void = append(v.Void, voidOf("deletes with bypass", m.Bypass)...)
	if share := m.Bypass.Stale.Share(); share < BypassStale {
		v.Void = append(v.Void, fmt.Sprintf("with %.2f %% stale responses where writes bypass the deletes, less than %.1f %%, the load shows nothing", 100*share, 100*BypassStale))
	}
	for _, why := range v.Void {
		v.Lines = append(v.Lines, "VOID  "+why)
	}
	return v
}

// voidOf says why stages do not count: the generator was late, or requests failed.
func voidOf(name string, stages ...Stage) (out []string) {
	for _, s := range stages {
		if why := s.TooLate(); why != "" {
			out = append(out, name+": "+why)
		}
		if s.Errors > 0 {
			out = append(out, fmt.Sprintf("%s: %d requests failed", name, s.Errors))
		}
	}
	return out
}
