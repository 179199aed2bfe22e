package house

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario/results"
)

// The README's table of results is that of the committed reports, and none of these is of a run that
// does not count.
func TestResultsOfExamples(t *testing.T) {
	var all []results.Results
	found, err := fs.Glob(os.DirFS(top), "deploy/examples/*/results.json")
	require.NoError(t, err)
	for _, name := range found {
		var r results.Results
		require.NoError(t, json.Unmarshal([]byte(read(t, name)), &r), name)
		require.Equal(t, path.Base(path.Dir(name)), r.Scenario, name)
		require.Empty(t, r.Void, "%s is of a void run: run `make scenario NAME=%s` again", name, r.Scenario)
		require.Equal(t, results.Report(r), read(t, path.Dir(name)+"/REPORT.md"), name)
		require.Equal(t, results.Chart(r), read(t, path.Dir(name)+"/chart.svg"), name)
		all = append(all, r)
	}
	want, err := results.ReplaceTable(read(t, "README.md"), all)
	require.NoError(t, err)
	require.Equal(t, want, read(t, "README.md"), "run `make scenario NAME=...` again, or restore the table")
}
