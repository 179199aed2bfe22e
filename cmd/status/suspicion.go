package status

import (
	"cmp"
	"fmt"
	"slices"
)

// RuleHits are what a sink that can tell said within the last hour about the values that a rule purged.
type RuleHits struct {
	Sink string `json:"sink"`
	Rule string `json:"rule"`
	// Purged is how many were purged, Existed how many of them were there.
	Purged  uint64 `json:"purged"`
	Existed uint64 `json:"existed"`
	// Values names what was purged: keys, tags or values.
	Values string `json:"values"`
}

func (h RuleHits) String() string {
	return fmt.Sprintf("%d of %d %s (%.1f %%)", h.Existed, h.Purged, h.Values, 100*float64(h.Existed)/float64(h.Purged))
}

// Suspicion is a rule whose values are hardly ever in the cache, although those of another rule are there: its
// templates may name others than the application uses. It proves nothing, so it never makes the
// status STALE.
type Suspicion struct {
	RuleHits
	// Beside is the rule that shows that the cache is in use.
	Beside RuleHits `json:"beside"`
	Text   string   `json:"text"`
}

// suspectFrom is how many purges make hits worth judging.
const suspectFrom = 1000

// Suspicions compares the rules at each sink: one with at least 1,000 purges of which under 1 % existed,
// beside one with over 10 %.
func Suspicions(all []RuleHits) (out []Suspicion) {
	for _, h := range all {
		if h.Purged < suspectFrom || h.Existed*100 >= h.Purged {
			continue
		}
		beside := RuleHits{}
		for _, other := range all {
			if other.Sink == h.Sink && other.Rule != h.Rule && other.Existed*10 > other.Purged && other.Purged > beside.Purged {
				beside = other
			}
		}
		if beside.Purged == 0 {
			continue
		}
		out = append(out, Suspicion{RuleHits: h, Beside: beside, Text: fmt.Sprintf(
			"rule %s may name %s that the application does not use at sink %s: within the last hour %s existed, of rule %s %s; "+
				"compare one of walpurge rules explain with those in the cache",
			h.Rule, h.Values, h.Sink, h, beside.Rule, beside)})
	}
	slices.SortFunc(out, func(a, b Suspicion) int { return cmp.Or(cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Rule, b.Rule)) })
	return out
}
