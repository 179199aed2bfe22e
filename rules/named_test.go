package rules

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestNamedSinks(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for name, text := range map[string]string{
		"open.yaml":     `rules: [{name: a, table: public.t, keys: [k], to: {edge: {tags: [t]}}}, {name: b, table: public.t, keys: [k], sinks: [cache, other]}]`,
		"defaults.yaml": "defaults: {sinks: [cache]}\nrules: [{name: c, table: public.t, keys: [k], urls: ['https://h/'], generations: [g]}]",
		"broken.yaml":   `rules: [`,
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		files = append(files, file)
	}
	names := func(files ...string) []string {
		sinks, err := NamedSinks(files)
		require.NoError(t, err)
		var out []string
		for _, s := range sinks {
			out = append(out, s.Name)
			for k := range invalidation.NumKinds {
				require.True(t, s.Takes.Has(invalidation.Kind(k)))
			}
		}
		return out
	}
	require.Equal(t, []string{"any", "cache", "edge", "other"}, names(files...))
	require.Equal(t, []string{"cache"}, names(filepath.Join(dir, "defaults.yaml")))
	require.Empty(t, names(filepath.Join(dir, "broken.yaml")))
	_, err := NamedSinks([]string{filepath.Join(dir, "gone.yaml")})
	require.ErrorIs(t, err, os.ErrNotExist)
	// What it finds is enough for the rules to load.
	sinks, err := NamedSinks([]string{filepath.Join(dir, "open.yaml"), filepath.Join(dir, "defaults.yaml")})
	require.NoError(t, err)
	_, err = Load([]string{filepath.Join(dir, "open.yaml"), filepath.Join(dir, "defaults.yaml")}, Options{Sinks: sinks})
	require.NoError(t, err)
}
