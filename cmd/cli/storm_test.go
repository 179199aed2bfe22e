package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const stormRules = `rules:
  - name: product
    table: public.products
    tags: ["product-{id}"]
    collapse: [{over: 500, tags: ["merchant-{merchant_id}"]}, {over: 20000, tags: [products]}]
    every: 30s
    sinks: [edge]
`

// stormy makes a directory with a configuration whose edge is at a tenth.
func stormy(t *testing.T) {
	t.Helper()
	config, err := os.ReadFile("testdata/walpurge.yaml")
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("walpurge.yaml", string(config[:len(config)-2])+", rollout: 10}\n")
	write("shop.yaml", stormRules)
	write("shop_test.yaml", `rules: [shop.yaml]
tests:
  - {name: few, table: public.products, insert: {id: 1, merchant_id: 3}, repeat: 2, expect: {edge: {tags: [product-1, product-2]}}}
  - {name: many, table: public.products, insert: {id: 1, merchant_id: 3}, repeat: 501, expect: {edge: {tags: [merchant-3]}}}
  - {name: more, table: public.products, insert: {id: 1, merchant_id: 3}, repeat: 20001, expect: {edge: {tags: [products]}}}
`)
	t.Chdir(dir)
}

func TestExplainShowsStormsAndRollouts(t *testing.T) {
	stormy(t)
	code, stdout, stderr := call("", "rules", "explain", "-c", "walpurge.yaml", "--change", `{"table": "public.products", "insert": {"id": 7, "merchant_id": 3}}`)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, `rule product (shop.yaml:2) matches: it has no condition
  tag product-{id} from the new row: product-7
  collapse, past 500 values in one transaction or waiting at a sink:
    tag merchant-{merchant_id} from the new row: merchant-3
  collapse, past 20000 values in one transaction or waiting at a sink:
    tag products: products
  each value at most once in 30s
  -> edge: tag product-7 (kept back by rollout)
`, stdout)
	code, stdout, _ = call("", "rules", "explain", "-c", "walpurge.yaml", "--json", "--change", `{"table": "public.products", "insert": {"id": 7, "merchant_id": 3}}`)
	require.Equal(t, 0, code)
	require.Contains(t, stdout, `"collapse":[{"over":500,"templates":[{"kind":"tag","template":"merchant-{merchant_id}","sinks":["edge"],"image":"new","values":["merchant-3"],"unknown":false}]},`)
	require.Contains(t, stdout, `"every":"30s","purges":[{"sink":"edge","kind":"tag","value":"product-7","withheld":true}]`)
}

// Rule tests judge the rules, not how far they are rolled out.
func TestRuleTestsCollapse(t *testing.T) {
	stormy(t)
	for _, args := range [][]string{{"shop_test.yaml"}, {"-c", "walpurge.yaml", "shop_test.yaml"}} {
		code, stdout, stderr := call("", append([]string{"rules", "test"}, args...)...)
		require.Equal(t, 0, code, stdout+stderr)
		require.Equal(t, "3 passed, 0 failed\n", stdout)
	}
}
