package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goThatFails is a go whose tests fail for one package in one of the rounds, and which kills
// the script that calls it once, in its third round.
const goThatFails = `#!/bin/sh
echo "$*" >> calls
case "$*" in
*./rules/*) [ $(grep -c ./rules/ calls) = 2 ] && { echo '--- FAIL: TestRules (0.00s)'; exit 1; } ;;
*./router/*) [ $(grep -c ./router/ calls) = 3 ] && { kill -9 $PPID; exit 1; } ;;
esac
exit 0
`

// TestPartsOfTheSuite runs deploy/dev/test-parts.sh with a go that fails and that takes the
// script down: it goes on after a part that failed, a second call does not repeat what was done,
// the last two rounds are loaded, and at the end the failure counts.
func TestPartsOfTheSuite(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "deploy/dev/test-parts.sh")
	require.NoError(t, os.MkdirAll(filepath.Dir(script), 0o755))
	require.NoError(t, os.WriteFile(script, []byte(read(t, "deploy/dev/test-parts.sh")), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), []byte(goThatFails), 0o755))
	run := func(args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), script, args...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	summary := func() []string {
		text, err := os.ReadFile(filepath.Join(dir, "dist/soak/summary.txt"))
		require.NoError(t, err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}

	out, code := run("soak", "3")
	require.Equal(t, -1, code, out)
	const parts = 10
	require.Len(t, summary(), 1+2*parts+2, out)

	out, code = run("soak", "3")
	require.Equal(t, 1, code, out)
	lines := summary()
	require.Len(t, lines, 1+3*parts+1, out)
	for i, line := range lines[1 : 1+3*parts] {
		fields := strings.Fields(line)
		require.Equal(t, i >= parts, fields[5] == "load=yes", line)
		if i == parts+1 {
			require.Equal(t, "2 rules FAIL TestRules", strings.Join([]string{fields[0], fields[1], fields[4], fields[6]}, " "))
		} else {
			require.Equal(t, "ok", fields[4], line)
		}
	}
	require.Contains(t, lines[1+3*parts], "30 parts, 1 of them failed")
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	require.NoError(t, err)
	require.Equal(t, 3*parts+1, strings.Count(string(calls), "\n"), "only the part that was killed runs again")

	// A run that came to its end starts over.
	out, code = run("soak", "1")
	require.Zero(t, code, out)
	require.Len(t, summary(), 1+parts+1)

	for _, args := range [][]string{nil, {"soak", "0"}, {"soak", "x"}, {"half"}} {
		out, code = run(args...)
		require.Equal(t, 2, code, "%v: %s", args, out)
	}
}
