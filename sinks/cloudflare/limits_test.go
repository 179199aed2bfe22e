package cloudflare

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// A plan's numbers are those that Cloudflare documents, and no bucket for the
// whole API lets more through in five minutes than the limit, whose penalty is
// five minutes of nothing.
func TestBudgets(t *testing.T) {
	for plan, want := range map[string]struct {
		perSecond, urls float64
		burst           int
	}{
		"free": {5.0 / 60, 800, 25}, "pro": {5, 1500, 25}, "business": {10, 1500, 50}, "enterprise": {50, 3000, 500},
	} {
		c := valid()
		c.Plan = plan
		require.NoError(t, c.Validate())
		b := c.Budgets()
		require.Len(t, b, 3)
		require.Equal(t, want.perSecond, b[0].PerSecond, plan)
		require.Equal(t, want.burst, b[0].Burst, plan)
		require.Equal(t, want.urls, b[1].PerSecond, plan)
		require.GreaterOrEqual(t, b[1].Burst, c.Limits().ItemsOf(invalidation.URL), "a full call fits")
		require.Less(t, float64(b[2].Burst)+300*b[2].PerSecond, 1200.0, plan)
		require.Greater(t, float64(b[2].Burst)+300*b[2].PerSecond, 1100.0, plan)
		require.Equal(t, 100, c.Limits().ItemsOf(invalidation.Tag))
		require.Equal(t, 100, c.Limits().ItemsOf(invalidation.URLPrefix))
		require.Equal(t, map[bool]int{true: 500, false: 100}[plan == "enterprise"], c.Limits().ItemsOf(invalidation.URL))
	}
	require.Len(t, presets, 4)
}

func TestBudgetsAreSharedByTokenAndByAccount(t *testing.T) {
	shares := func(file, account string) []string {
		c := valid()
		c.APITokenFile, c.Budget.Account = file, account
		var out []string
		for _, b := range c.Budgets() {
			out = append(out, b.Share)
		}
		return out
	}
	require.Equal(t, shares("/run/a", ""), shares("/run/./a", ""), "one token file, one account unless said otherwise")
	one, two := shares("/run/a", "main"), shares("/run/b", "main")
	require.Len(t, one, 4)
	require.Equal(t, one[:2], two[:2])
	require.NotEqual(t, one[2], two[2], "each token has its requests")
	require.Equal(t, one[3], two[3], "and all tokens of a user together")
	other := shares("/run/a", "other")
	require.NotEqual(t, one[0], other[0])
	require.Equal(t, one[2], other[2])
}

func TestWhatACallCosts(t *testing.T) {
	c := valid()
	c.ZoneID, c.Zones = "", map[string]string{"shop.example": zoneID, "www.shop.example": zoneID, "shop.de": otherZone}
	costs := func(batch ...invalidation.Invalidation) (out []int) {
		for _, b := range c.Budgets() {
			out = append(out, b.Cost(batch))
		}
		return out
	}
	u := func(k invalidation.Kind, v string) invalidation.Invalidation {
		return invalidation.Invalidation{Kind: k, Value: v}
	}
	require.Equal(t, []int{2, 0, 2}, costs(tags("a", "b", "c")...))
	require.Equal(t, []int{2, 0, 2}, costs(u(invalidation.Everything, "")))
	require.Equal(t, []int{0, 3, 1}, costs(u(invalidation.URL, "https://shop.example/"), u(invalidation.URL, "https://www.shop.example/"), u(invalidation.URL, "https://elsewhere.example/")))
	require.Equal(t, []int{2, 0, 2}, costs(u(invalidation.URLPrefix, "shop.example/a"), u(invalidation.URLPrefix, "m.shop.de/a")))
	c = valid()
	require.Equal(t, []int{1, 0, 1}, costs(tags("a", "b", "c")...))
}
