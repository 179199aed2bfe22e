package cli

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// explain shows what a lookup would be asked, and what its rows come to.
func TestExplainLookupsAndMessages(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("walpurge.yaml", []byte(`pipeline: shop
rules: [shop.yaml]
postgres: {url: "postgres://db"}
sinks: {cache: {valkey: {url: "valkey://cache"}, flush: {key_patterns: ["*"]}}}
`), 0o600))
	require.NoError(t, os.WriteFile("shop.yaml", []byte(`rules:
  - name: menu
    table: public.items
    lookup: {m: {sql: "SELECT store_id FROM stores WHERE menu_id = $1", args: ["{menu_id}"]}}
    keys: ["item:{id}", "menu:{m.store_id}:{id}"]
    unknown: {keys: [menus]}
  - {name: hand, message: cache.purge}
`), 0o600))
	for change, want := range map[string]string{
		`{"table": "public.items", "insert": {"id": 7, "menu_id": 3}, "lookup": {"m": [{"store_id": 1}, {"store_id": null}]}}`: `rule menu (shop.yaml:2) matches: it has no condition
  lookup m for the new row: SELECT store_id FROM stores WHERE menu_id = $1 with (3): 2 rows
  key item:{id} from the new row: item:7
  key menu:{m.store_id}:{id} from the new row: menu:1:7 (store_id is NULL)
  -> cache: key item:7
  -> cache: key menu:1:7
`,
		`{"table": "public.items", "delete": {"id": 7, "menu_id": 3}}`: `rule menu (shop.yaml:2) matches: it has no condition
  lookup m for the old row: SELECT store_id FROM stores WHERE menu_id = $1 with (3): 0 rows (no rows are given for it under ` + "`lookup`); `unknown`" + ` stands in
  key item:{id} from the old row: item:7
  -> cache: key item:7
  -> cache: key menus
`,
		`{"table": "public.items", "delete": {"id": 7, "menu_id": null}}`: `rule menu (shop.yaml:2) matches: it has no condition
  lookup m for the old row: SELECT store_id FROM stores WHERE menu_id = $1 with (): 0 rows (menu_id is NULL)
  key item:{id} from the old row: item:7
  -> cache: key item:7
`,
		`{"message": {"prefix": "cache.purge", "content": {"keys": ["home", ""]}}}`: `rule hand (shop.yaml:7) matches: it carries out messages with this prefix; what cannot be used: keys[1] is empty
  -> cache: key home
  -> cache: parked, one item for cache.purge
`,
	} {
		code, stdout, stderr := call("", "rules", "explain", "--change", change)
		require.Empty(t, stderr)
		require.Equal(t, want, stdout)
		require.Equal(t, 0, code)
	}
	code, stdout, _ := call("", "rules", "explain", "--json", "--change", `{"table": "public.items", "insert": {"id": 7, "menu_id": 3}, "lookup": {"m": [{"store_id": 1}]}}`)
	require.Equal(t, 0, code)
	var out []map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &out))
	require.Equal(t, []any{map[string]any{"lookup": "m", "image": "new", "sql": "SELECT store_id FROM stores WHERE menu_id = $1", "args": []any{"3"}, "rows": 1.0, "unknown": false}}, out[0]["lookups"])
	code, _, stderr := call("", "rules", "explain", "--change", `{"message": {"prefix": "cache.prge"}}`)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, `no rule carries out messages with the prefix "cache.prge"; did you mean "cache.purge"?`)
}
