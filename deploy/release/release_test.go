package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const top = "../.."

// One page is kept as it should be, the others are made alike.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1795219200")
	require.NoError(t, run(t.Context(), []string{"man", "-version", "1.2.3", "-out", dir}, io.Discard))
	got, err := os.ReadFile(filepath.Join(dir, "walpurge-pause.1"))
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/walpurge-pause.1")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "if the command has changed on purpose: make man, and copy the page")
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	require.NoError(t, err)
	require.Greater(t, len(pages), 12)
	for _, name := range pages {
		page, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Contains(t, string(page), `"walpurge 1.2.3"`, name)
		if cmd := filepath.Base(name); cmd != "walpurge.1" && !strings.HasPrefix(cmd, "walpurge-parked.") && !strings.HasPrefix(cmd, "walpurge-rules.") {
			require.Contains(t, string(page), ".SH EXAMPLE", "%s has no example", name)
		}
	}
}

func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run(t.Context(), []string{"completion", "-out", dir}, io.Discard))
	for _, name := range []string{"walpurge", "_walpurge", "walpurge.fish"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(text), "__complete", name)
	}
}

// The bill names what is linked, with versions and package URLs, and twice the same.
func TestSBOM(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	var first, second bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"sbom", "-version", "1.2.3", self}, &first))
	require.NoError(t, writeSBOM(&second, self, "1.2.3"))
	require.Equal(t, first.String(), second.String())

	var b bom
	require.NoError(t, json.Unmarshal(first.Bytes(), &b))
	require.Equal(t, "CycloneDX", b.Format)
	require.Equal(t, "pkg:golang/github.com/walpurge/walpurge@1.2.3", b.Metadata.Component.PURL)
	sum, err := sumOf(self)
	require.NoError(t, err)
	require.Equal(t, []hash{{"SHA-256", sum}}, b.Metadata.Component.Hashes)
	info, ok := debug.ReadBuildInfo()
	require.True(t, ok)
	require.Len(t, b.Components, len(info.Deps)+1, "the modules and the standard library")
	refs := map[string]bool{}
	for _, c := range b.Components {
		require.NotEmpty(t, c.Version, c.Name)
		require.Equal(t, "pkg:golang/"+c.Name+"@"+c.Version, c.PURL)
		require.False(t, refs[c.Ref], "%s twice", c.Ref)
		refs[c.Ref] = true
	}
	require.Len(t, b.Dependencies[0].DependsOn, len(b.Components))
}

func TestReplacedModuleInSBOM(t *testing.T) {
	b := sbom(&debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Path: "example.org/a"}, Deps: []*debug.Module{
		{Path: "example.org/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v1.0.1", Sum: "h1:x"}},
	}}, "1", "00")
	require.Equal(t, "pkg:golang/std@1.26.0", b.Components[0].PURL)
	require.Equal(t, "pkg:golang/example.org/fork@v1.0.1", b.Components[1].PURL)
	require.Equal(t, "h1:x", b.Components[1].Properties[0].Value)
}

func TestRefusals(t *testing.T) {
	for _, args := range [][]string{nil, {"publish"}, {"sbom"}, {"sbom", "release_test.go"}, {"build", "-version", "1/2"}, {"build", "-platforms", "linux", "-out", t.TempDir()}} {
		require.Error(t, run(t.Context(), args, io.Discard), "%v", args)
	}
}

func TestSumsAreChecked(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("hello\n"), 0o600))
	require.NoError(t, sums(dir, []string{"a"}))
	text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	require.NoError(t, err)
	require.Equal(t, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03  a\n", string(text))
}
