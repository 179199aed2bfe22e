package rules

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

const tenantRules = `
rules:
  - {name: exact, table: public.items, sinks: [cache], keys: ["item:{id}", "front"]}
  - {name: orders, table: "tenant_{tenant}.orders", sinks: [cache], keys: ["{tenant}:order:{id}"]}
  - {name: said, table: "tenant_{tenant}.orders", sinks: [cache], keys: ["{tenant}:o:{id}"], on_truncate: {keys: [orders]}}
`

func TestForget(t *testing.T) {
	s := parsePatterns(t, tenantRules)
	tenants := func(n int) (out []Table) {
		for i := range n {
			out = append(out, Table{Schema: fmt.Sprintf("tenant_%d", i), Name: "orders"})
		}
		return out
	}
	out := recorder{}
	s.Forget(append(tenants(2), Table{Schema: "public", Name: "items"}, Table{Schema: "public", Name: "other"}), &out)
	require.Equal(t, []string{
		"0 key_pattern 0:order:*", "0 key_pattern 0:o:*", "0 key_pattern 1:order:*", "0 key_pattern 1:o:*", "0 key_pattern item:*", "0 key front",
	}, out.values, "what on_truncate names is for a TRUNCATE alone")
	require.Empty(t, out.verdicts, "nothing changed")

	out = recorder{}
	s.Forget(append(tenants(manyTables), Table{Schema: "public", Name: "items"}), &out)
	require.Equal(t, []string{"0 key_pattern *:order:*", "0 key_pattern *:o:*", "0 key_pattern item:*", "0 key front"}, out.values)
}

// TestForgetWhatWasAskedFor: with no row there is nothing to ask, so all that
// answers can have named goes; and messages have no table to forget.
func TestForgetWhatWasAskedFor(t *testing.T) {
	s := parsePatterns(t, `
rules:
  - {name: item, table: "tenant_{tenant}.items", sinks: [cache], keys: ["{tenant}:menu:{m.x}"], unknown: {keys: [menus]}, lookup: {m: {sql: "SELECT $1, $2", args: ["{tenant}", "{id}"]}}}
  - {name: hand, message: cache.purge, sinks: [cache]}
`)
	out := asker{set: s}
	s.Forget([]Table{{Schema: "tenant_a", Name: "items"}, {}}, &out)
	require.Equal(t, []string{"0 key_pattern a:menu:*"}, out.values)
	require.Empty(t, out.asked)
	require.Equal(t, []string{"tenant_{tenant}.items"}, s.Patterns())
	require.Empty(t, s.Tables(), "a rule of messages watches none")
	require.False(t, s.Matches(Table{}))
}

func TestNamed(t *testing.T) {
	s := parsePatterns(t, tenantRules+`  - {name: one, table: tenant_a.orders, sinks: [cache], keys: ["a:{id}"]}`)
	for table, want := range map[Table]string{
		{Schema: "public", Name: "items"}: "public.items", {Schema: "tenant_a", Name: "orders"}: "tenant_a.orders",
		{Schema: "tenant_b", Name: "orders"}: "tenant_{tenant}.orders", {Schema: "public", Name: "orders"}: "",
	} {
		got, watched := s.Named(table)
		require.Equal(t, want, got)
		require.Equal(t, want != "", watched)
	}
}
