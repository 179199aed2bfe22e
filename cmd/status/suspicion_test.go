package status

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSuspicions(t *testing.T) {
	good := RuleHits{"cache", "good", 10, 2}
	for name, c := range map[string]struct {
		hits []RuleHits
		want []string
	}{
		"nothing":                    {nil, nil},
		"none of 1,000":              {[]RuleHits{good, {"cache", "bad", 1000, 0}}, []string{"bad"}},
		"too few":                    {[]RuleHits{good, {"cache", "bad", 999, 0}}, nil},
		"just under 1 %":             {[]RuleHits{good, {"cache", "bad", 1001, 10}}, []string{"bad"}},
		"1 %":                        {[]RuleHits{good, {"cache", "bad", 1000, 10}}, nil},
		"alone":                      {[]RuleHits{{"cache", "bad", 5000, 0}}, nil},
		"another with 10 %":          {[]RuleHits{{"cache", "so so", 1000, 100}, {"cache", "bad", 5000, 0}}, nil},
		"another with more":          {[]RuleHits{{"cache", "so so", 1000, 101}, {"cache", "bad", 5000, 0}}, []string{"bad"}},
		"another with nothing at it": {[]RuleHits{{"cache", "idle", 0, 0}, {"cache", "bad", 5000, 0}}, nil},
		"good at another sink":       {[]RuleHits{{"other", "good", 10, 9}, {"cache", "bad", 5000, 0}}, nil},
		"bad at another sink":        {[]RuleHits{good, {"cache", "bad", 900, 0}, {"other", "bad", 5000, 0}}, nil},
		"two":                        {[]RuleHits{{"cache", "worse", 5000, 0}, good, {"cache", "bad", 5000, 1}}, []string{"bad", "worse"}},
	} {
		var got []string
		for _, s := range Suspicions(c.hits) {
			got = append(got, s.Rule)
			require.Contains(t, s.Text, "rule "+s.Rule+" may name keys")
		}
		require.Equal(t, c.want, got, name)
	}
	s := Suspicions([]RuleHits{{"cache", "good", 10, 2}, {"cache", "better", 2000, 900}, {"cache", "bad", 1204, 3}})
	require.Equal(t, "rule bad may name keys that the application does not use at sink cache: within the last hour 3 of 1204 keys (0.2 %) existed, "+
		"of rule better 900 of 2000 keys (45.0 %); compare a key of walpurge rules explain with those in the cache", s[0].Text)
}
