package status

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSuspicions(t *testing.T) {
	good := RuleHits{"cache", "good", 10, 2, "keys"}
	for name, c := range map[string]struct {
		hits []RuleHits
		want []string
	}{
		"nothing":                    {nil, nil},
		"none of 1,000":              {[]RuleHits{good, {"cache", "bad", 1000, 0, "keys"}}, []string{"bad"}},
		"too few":                    {[]RuleHits{good, {"cache", "bad", 999, 0, "keys"}}, nil},
		"just under 1 %":             {[]RuleHits{good, {"cache", "bad", 1001, 10, "keys"}}, []string{"bad"}},
		"1 %":                        {[]RuleHits{good, {"cache", "bad", 1000, 10, "keys"}}, nil},
		"alone":                      {[]RuleHits{{"cache", "bad", 5000, 0, "keys"}}, nil},
		"another with 10 %":          {[]RuleHits{{"cache", "so so", 1000, 100, "keys"}, {"cache", "bad", 5000, 0, "keys"}}, nil},
		"another with more":          {[]RuleHits{{"cache", "so so", 1000, 101, "keys"}, {"cache", "bad", 5000, 0, "keys"}}, []string{"bad"}},
		"another with nothing at it": {[]RuleHits{{"cache", "idle", 0, 0, "keys"}, {"cache", "bad", 5000, 0, "keys"}}, nil},
		"good at another sink":       {[]RuleHits{{"other", "good", 10, 9, "keys"}, {"cache", "bad", 5000, 0, "keys"}}, nil},
		"bad at another sink":        {[]RuleHits{good, {"cache", "bad", 900, 0, "keys"}, {"other", "bad", 5000, 0, "keys"}}, nil},
		"two":                        {[]RuleHits{{"cache", "worse", 5000, 0, "keys"}, good, {"cache", "bad", 5000, 1, "keys"}}, []string{"bad", "worse"}},
	} {
		var got []string
		for _, s := range Suspicions(c.hits) {
			got = append(got, s.Rule)
			require.Contains(t, s.Text, "rule "+s.Rule+" may name keys")
		}
		require.Equal(t, c.want, got, name)
	}
	s := Suspicions([]RuleHits{{"cache", "good", 10, 2, "keys"}, {"cache", "better", 2000, 900, "keys"}, {"cache", "bad", 1204, 3, "keys"}})
	require.Equal(t, "rule bad may name keys that the application does not use at sink cache: within the last hour 3 of 1204 keys (0.2 %) existed, "+
		"of rule better 900 of 2000 keys (45.0 %); compare one of walpurge rules explain with those in the cache", s[0].Text)
	s = Suspicions([]RuleHits{{"edge", "good", 10, 2, "tags"}, {"edge", "bad", 1000, 0, "tags"}})
	require.Contains(t, s[0].Text, "rule bad may name tags that the application does not use at sink edge: within the last hour 0 of 1000 tags (0.0 %) existed")
}
