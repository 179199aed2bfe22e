package dashboard

import (
	"fmt"
	"strings"

	"github.com/walpurge/walpurge/integration/scenario/results"
)

// slower is how much longer than without a cache the slowest in a hundred requests may take in the stage
// in which Valkey is killed.
const slower = 2

// judge makes facts of the stage in which Valkey is killed: walpurge's, beside that of variant 0, to
// which nothing happens.
func judge(r results.Results) []results.Fact {
	v, _ := r.Variant("3")
	killed, ok := v.Stage(outage)
	if !ok {
		return nil
	}
	facts := []results.Fact{
		{
			Claim: "Valkey is killed in the middle of the load and comes back: no request fails",
			Found: fmt.Sprintf("%d of %d requests failed", killed.Errors, killed.Requests), Holds: killed.Errors == 0,
		},
		{
			Claim: "Nothing is stale when Valkey is back with what it held",
			Found: fmt.Sprintf("%d of %d responses were older than 1 s", killed.Stale.Over1s, killed.Stale.Responses), Holds: killed.Stale.Over1s == 0,
		},
	}
	control, _ := r.Variant("0")
	plain, ok := control.Stage(outage)
	if !ok {
		return facts
	}
	bounded := true
	var found []string
	for _, e := range killed.Endpoints {
		if c, ok := plain.Endpoint(e.Name); ok {
			bounded = bounded && e.P99 <= slower*c.P99
			found = append(found, fmt.Sprintf("%s %.1f ms, without a cache %.1f ms", e.Name, e.P99, c.P99))
		}
	}
	return append(facts, results.Fact{
		Claim: fmt.Sprintf("The p99 of the stage with the outage is at most %d times that of the same stage without a cache", slower),
		Found: strings.Join(found, "; "), Holds: bounded && len(found) > 0,
	})
}
