package seeded

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Caught runs one test of the present test binary in a process of its own, with
// the bug armed, and fails t unless that test fails. It blocks until the test
// has ended; only a test that hangs meets a limit.
func Caught(t *testing.T, bug, test string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 11*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), "WALPURGE_FAILPOINTS="+bug)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "%s does not notice %s:\n%s", test, bug, out)
	require.Contains(t, string(out), "--- FAIL: "+test, "%s with %s armed must fail, and not end otherwise", test, bug)
}
