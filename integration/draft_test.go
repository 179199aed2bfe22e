package integration

import (
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestDraftOfARealSchema(t *testing.T) {
	sql, err := os.ReadFile("testdata/rental.sql")
	require.NoError(t, err)
	r := newRig(t, rigOptions{schema: string(sql)})
	r.config(freeAddr(t))
	o := call(t, nil, "rules", "init", "--db", r.pg.URL("app"), "--schema", "public,Büro")
	require.Zero(t, o.code, o.stderr)
	golden(t, "testdata/rental_rules.yaml", o.stdout)
	r.write("rules/catalog.yaml", o.stdout)
	c := r.call("check")
	require.Equal(t, "fine: pipeline app, 2 sinks\n", c.stdout)
}
