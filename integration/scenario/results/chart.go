package results

import (
	"fmt"
	"math"
	"strings"
)

// The chart's measures, in pixels. The y axis is logarithmic, from lowest to 100 %; what is below
// lowest is drawn on it.
const (
	chartWidth, chartHeight = 720, 440
	left, right             = 70, 30
	top, bottom             = 50, 60
	lowest                  = 0.0001
)

// Chart draws the share of stale responses against the hit rate: TTL alone as a curve, the variants
// as points. The nearer to the lower right corner, the better.
func Chart(r Results) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, chartWidth, chartHeight)
	line(`<title>%s: share of stale responses against hit rate</title>`, escape(r.Scenario))
	line(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	line(`<text x="%d" y="24" font-size="15">%s: stale responses against hit rate, at the peak</text>`, left, escape(r.Scenario))
	for percent := 0; percent <= 100; percent += 20 {
		at := x(float64(percent) / 100)
		line(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/>`, at, top, at, chartHeight-bottom)
		line(`<text x="%.1f" y="%d" text-anchor="middle">%d %%</text>`, at, chartHeight-bottom+18, percent)
	}
	for share := lowest; share <= 1; share *= 10 {
		line(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/>`, left, y(share), chartWidth-right, y(share))
		text := fmt.Sprintf("%g %%", round(100*share, 6))
		if share == lowest {
			text = "≤ " + text
		}
		line(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, y(share)+4, text)
	}
	line(`<text x="%d" y="%d" text-anchor="middle">hit rate</text>`, (left+chartWidth-right)/2, chartHeight-18)
	line(`<text x="18" y="%d" text-anchor="middle" transform="rotate(-90 18 %d)">stale responses</text>`, (top+chartHeight-bottom)/2, (top+chartHeight-bottom)/2)
	var curve []string
	for _, p := range r.Points {
		curve = append(curve, fmt.Sprintf("%.1f,%.1f", x(p.HitRate), y(p.Stale)))
	}
	if len(curve) > 1 {
		line(`<polyline points="%s" fill="none" stroke="#888888" stroke-dasharray="4 3"/>`, strings.Join(curve, " "))
	}
	for _, p := range r.Points {
		dot(line, p, "#888888")
	}
	for _, p := range VariantPoints(r) {
		color := "#1f77b4"
		if strings.HasPrefix(p.Label, "3") {
			color = "#d62728"
		}
		dot(line, p, color)
	}
	line(`</svg>`)
	return b.String()
}

// VariantPoints are the points of the variants with a cache, at the peak.
func VariantPoints(r Results) (out []Point) {
	for _, v := range r.Variants {
		if s, ok := v.Stage(r.Peak); ok && s.HitRate >= 0 {
			out = append(out, PointOf(v.Name+": "+v.Title, s))
		}
	}
	return out
}

func dot(line func(string, ...any), p Point, color string) {
	at, up := x(p.HitRate), y(p.Stale)
	anchor, to := "start", at+8
	if at > chartWidth*0.6 {
		anchor, to = "end", at-8
	}
	line(`<circle cx="%.1f" cy="%.1f" r="5" fill="%s"><title>%s: hit rate %.1f %%, stale %.3f %%</title></circle>`, at, up, color, escape(p.Label), 100*p.HitRate, 100*p.Stale)
	line(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`, to, up-6, anchor, color, escape(p.Label))
}

func x(rate float64) float64 {
	return left + min(1, max(0, rate))*(chartWidth-left-right)
}

func y(share float64) float64 {
	decades := -math.Log10(lowest)
	part := (math.Log10(min(1, max(lowest, share))) + decades) / decades
	return float64(chartHeight-bottom) - part*(chartHeight-top-bottom)
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;").Replace(s)
}

// Beyond reports whether a point lies outside the curve of TTLs: no TTL has at least its hit rate
// and at most its share of stale responses.
func Beyond(p Point, ttls []Point) bool {
	for _, t := range ttls {
		if t.HitRate >= p.HitRate && t.Stale <= p.Stale {
			return false
		}
	}
	return true
}
