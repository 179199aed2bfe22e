package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every whole Go file in a document compiles, against the modules that we use.
func TestGoBlocks(t *testing.T) {
	seen := 0
	for _, name := range files(t, ".md") {
		found, _ := blocks(read(t, name))
		for _, b := range found {
			if b.lang != "go" || !strings.HasPrefix(b.text, "package ") {
				continue
			}
			seen++
			file := filepath.Join(t.TempDir(), "main.go")
			require.NoError(t, os.WriteFile(file, []byte(b.text), 0o600))
			// With -race, as make test compiles everything: half the work if nothing is cached.
			cmd := exec.Command("go", "vet", "-race", file)
			cmd.Dir = top
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s:%d: the Go does not compile: %s", name, b.line, out)
			}
			formatted, err := exec.Command("gofmt", "-l", file).CombinedOutput()
			require.NoError(t, err)
			require.Empty(t, string(formatted), "%s:%d: gofmt would change it", name, b.line)
		}
	}
	require.GreaterOrEqual(t, seen, 3)
}
