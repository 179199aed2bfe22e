package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
)

// The part of CycloneDX 1.6 that a Go binary can fill. There is no serial number
// and no time in it, so that it can be made again and compared.
type bom struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// writeSBOM reads the modules that the linker has noted in a binary: what is in
// it, not what go.mod allows. The standard library is one of them.
func writeSBOM(w io.Writer, file, version string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the build information of %s: %w", file, err)
	}
	sum, err := sumOf(file)
	if err != nil {
		return err
	}
	b := sbom(info, version, sum)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(b)
}

func sbom(info *debug.BuildInfo, version, sum string) bom {
	main := component{Type: "application", Name: info.Main.Path, Version: version, Hashes: []hash{{"SHA-256", sum}}}
	main.PURL = purl(main.Name, version)
	main.Ref = main.PURL
	for _, s := range info.Settings {
		if slices.Contains([]string{"CGO_ENABLED", "GOARCH", "GOOS", "-tags", "-trimpath"}, s.Key) {
			main.Properties = append(main.Properties, property{"walpurge:build:" + s.Key, s.Value})
		}
	}
	std := component{Type: "library", Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	parts := []component{std}
	for _, m := range info.Deps {
		c := component{Type: "library", Name: m.Path, Version: m.Version}
		if m.Replace != nil {
			m = m.Replace
			c.Name, c.Version = m.Path, m.Version
		}
		if m.Sum != "" {
			// Of the module's files as go.sum has it, not of one file.
			c.Properties = []property{{"walpurge:go.sum", m.Sum}}
		}
		parts = append(parts, c)
	}
	b := bom{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{main}, Components: parts}
	direct := dependency{Ref: main.Ref}
	for i := range parts {
		parts[i].PURL = purl(parts[i].Name, parts[i].Version)
		parts[i].Ref = parts[i].PURL
		direct.DependsOn = append(direct.DependsOn, parts[i].Ref)
	}
	// A binary does not tell which module needs which.
	b.Dependencies = []dependency{direct}
	return b
}

// purl is the package URL of a Go module.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + url.PathEscape(version)
}
