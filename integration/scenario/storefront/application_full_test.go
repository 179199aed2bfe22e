//go:build full

package storefront

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/results"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// examples is where the systems are.
const examples = "../../../deploy/examples"

// built installs and compiles the application.
func built(t *testing.T) scenario.Build {
	t.Helper()
	dir := t.TempDir()
	b := scenario.Build{Root: "../../..", Files: filepath.Join(dir, "files"), Built: filepath.Join(dir, "built")}
	require.NoError(t, os.Mkdir(b.Built, 0o755))
	for _, part := range []string{"app/package.json", "app/package-lock.json", "app/tsconfig.json"} {
		raw, err := os.ReadFile(filepath.Join(examples, "storefront", part))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Join(b.Files, "app"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(b.Files, part), raw, 0o644))
	}
	require.NoError(t, os.CopyFS(filepath.Join(b.Files, "app", "src"), os.DirFS(filepath.Join(examples, "storefront", "app", "src"))))
	require.NoError(t, prepare(t.Context(), b))
	return b
}

func TestApplication(t *testing.T) {
	b := built(t)

	// The application and the rules have the same values in a rollout.
	t.Run("rollout", func(t *testing.T) {
		values := []string{"", "a", "foobar", "product:7", "storefront::listing:3:0:1", "listing-3-2", "Straße ☕", invalidation.JoinField("products:3", "7")}
		for id := range 500 {
			values = append(values, invalidation.JoinField("products:5", fmt.Sprint(id)), fmt.Sprintf("listing-%d-0", id))
		}
		input, err := json.Marshal(values)
		require.NoError(t, err)
		program := `import { bucket, field } from './dist/rollout.js'
			const values = JSON.parse(process.argv[1])
			console.log(JSON.stringify([...values.map(bucket), bucket(field('products:3', '7'))]))`
		cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", program, "--", string(input))
		cmd.Dir, cmd.Stderr = b.Built, os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err)
		var got []int
		require.NoError(t, json.Unmarshal(out, &got))
		values = append(values, invalidation.JoinField("products:3", "7"))
		require.Len(t, got, len(values))
		for i, v := range values {
			require.Equal(t, rules.Bucket([]byte(v)), got[i], "%q", v)
		}
	})

	// Scripts for k6 use what k6 has, as its published types say. k6 itself is not run.
	t.Run("k6", func(t *testing.T) {
		scripts, err := filepath.Glob(filepath.Join(examples, "*", "k6.js"))
		require.NoError(t, err)
		require.NotEmpty(t, scripts)
		for _, script := range scripts {
			raw, err := os.ReadFile(script)
			require.NoError(t, err)
			out, err := k6Types(t, b, raw)
			require.NoError(t, err, "%s:\n%s", script, out)
			// What the types do not have is found.
			wrong := strings.Replace(string(raw), "constant-arrival-rate", "constant-arrivals", 1)
			require.NotEqual(t, string(raw), wrong)
			out, err = k6Types(t, b, []byte(wrong))
			require.Error(t, err, out)
			require.Contains(t, out, "constant-arrivals")
			out, err = k6Types(t, b, append(raw, "\nhttp.fetch('/')\n"...))
			require.Error(t, err, out)
			require.Contains(t, out, "Property 'fetch' does not exist")
		}
	})
}

// k6Types checks a script against @types/k6.
func k6Types(t *testing.T, b scenario.Build, script []byte) (string, error) {
	t.Helper()
	// Types are looked for in node_modules above the file.
	dir, err := os.MkdirTemp(b.Built, "k6-")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "script.js"), script, 0o644))
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(b.Built, "node_modules", "typescript", "bin", "tsc"), "--noEmit", "--allowJs", "--checkJs", "--strict",
		"--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--types", "k6", "script.js")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestGateIsRed removes the rule for listings at the CDN. The gate finds the old listings.
func TestGateIsRed(t *testing.T) {
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "walpurge")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/walpurge")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	raw, err := os.ReadFile(filepath.Join(root, "deploy/examples/storefront/bounds.json"))
	require.NoError(t, err)
	bounds, err := results.ParseBounds(raw)
	require.NoError(t, err)
	const rule = "  - name: product-pages\n    table: public.products\n"
	measured, err := scenario.Gate(t.Context(), Scenario(), scenario.Options{
		Root: root, Walpurge: program, Version: "test", Out: t.Output(), Alternations: 1,
		Edits: []scenario.Edit{{File: "rules/catalog.yaml", Old: rule, New: rule + "    ops: [delete]\n"}},
	})
	require.NoError(t, err)
	verdict := results.Compare(bounds, measured)
	t.Log(verdict)
	require.Contains(t, strings.Join(verdict.Failed, "\n"), "older than 1 s, at most 0")
}
