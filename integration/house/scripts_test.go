//go:build full

package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// JavaScript in documents parses.
func TestScriptBlocks(t *testing.T) {
	node, err := exec.LookPath("node")
	require.NoError(t, err, "apt-get install nodejs")
	seen := 0
	for _, name := range files(t, ".md") {
		found, _ := blocks(read(t, name))
		for _, b := range found {
			if b.lang != "js" {
				continue
			}
			seen++
			file := filepath.Join(t.TempDir(), "block"+strconv.Itoa(b.line)+".mjs")
			require.NoError(t, os.WriteFile(file, []byte(b.text), 0o600))
			out, err := exec.Command(node, "--check", file).CombinedOutput()
			require.NoError(t, err, "%s:%d: %s", name, b.line, out)
		}
	}
	require.Positive(t, seen)
}
