package bench

import (
	"fmt"
	"io"

	"github.com/walpurge/walpurge/cmd/plural"
)

// Report is what was measured.
type Report struct {
	Rows           int     `json:"rows"`
	PerTransaction int     `json:"per_transaction"`
	DrainSeconds   float64 `json:"drain_seconds"`
	RowsPerSecond  float64 `json:"rows_per_second"`
	// Rate is in transactions a second; Commits is how many there were.
	Rate    int       `json:"rate"`
	Commits int       `json:"commits"`
	Sinks   []Latency `json:"sinks"`
}

// Latency is the time from the return of COMMIT until the sink had purged, in
// milliseconds.
type Latency struct {
	Sink string  `json:"sink"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) {
	fmt.Fprintf(out, "backlog of %s, %d a transaction: %.2f s, %.0f rows a second, the start included\n", plural.Count(r.Rows, "row"), r.PerTransaction, r.DrainSeconds, r.RowsPerSecond)
	for _, l := range r.Sinks {
		fmt.Fprintf(out, "commit to purged at %s, %s at %d a second: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, most %.2f ms\n", l.Sink, plural.Count(r.Commits, "transaction"), r.Rate, l.P50, l.P90, l.P99, l.Max)
	}
}
