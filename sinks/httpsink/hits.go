package httpsink

import "github.com/walpurge/walpurge/rules/invalidation"

// CountHits tells hits, for each rule, how many of its values in a purge existed, where the answer says only how
// many did in all. It credits every rule with as many as may have been its own, so that none looks
// worse than it is.
func CountHits(purged []invalidation.Invalidation, existed int, hits func(rule string, existed, absent int)) {
	byRule := make(map[string]int)
	for _, inv := range purged {
		byRule[inv.Rule]++
	}
	for rule, n := range byRule {
		if rule != "" {
			hits(rule, min(n, existed), n-min(n, existed))
		}
	}
}
