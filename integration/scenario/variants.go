package scenario

import (
	"fmt"
	"strconv"
	"time"
)

// Variants are the ways to cache that a run compares. Variant 4, with fenced fills, comes with the
// client libraries.
func Variants(bypass float64) []Variant {
	return []Variant{
		{Name: "0", Title: "no cache"},
		{Name: "1", Title: "TTL only", Cache: true, Bypass: bypass},
		{Name: "2", Title: "TTL and deletes after COMMIT", Cache: true, Deletes: true},
		{Name: "2+bypass", Title: fmt.Sprintf("the same, %.0f %% of writes bypass it", bypass*100), Cache: true, Deletes: true, Bypass: bypass},
		{Name: "2'", Title: "2, killed once before a delete", Cache: true, Deletes: true, Kill: true},
		{Name: "3", Title: "walpurge, TTL 1 h", Cache: true, TTL: time.Hour, Walpurge: true, Bypass: bypass},
	}
}

// variants are those of this scenario.
func (sc Scenario) variants() []Variant {
	all := Variants(sc.Bypass)
	if sc.KeepTTL {
		for i := range all {
			if all[i].Walpurge {
				all[i].Title, all[i].TTL = "walpurge, the same TTL", 0
			}
		}
	}
	return all
}

// parseNanos reads a time in nanoseconds since 1970.
func parseNanos(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("header %s: %w", HeaderCommitted, err)
	}
	return time.Unix(0, n), nil
}
