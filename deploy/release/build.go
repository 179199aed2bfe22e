package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// all are the platforms that a release is made for.
var all = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

type buildConfig struct {
	Version   string
	Out       string
	Platforms []string
	// Dir is the top of the repository; empty is the working directory.
	Dir string
	// Env is added to the environment of the compiler.
	Env []string
	Say io.Writer
}

// build makes binary and bill of materials for each platform, then SHA256SUMS over
// all of them. What another release left in the directory under these names goes.
func build(ctx context.Context, cfg buildConfig) error {
	out, err := filepath.Abs(cfg.Out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(out, "walpurge_*_*_*"))
	if err != nil {
		return err
	}
	for _, name := range stale {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	var made []string
	for _, platform := range cfg.Platforms {
		goos, goarch, found := strings.Cut(platform, "/")
		if !found {
			return fmt.Errorf("platform %q: write GOOS/GOARCH, such as linux/amd64", platform)
		}
		name := fmt.Sprintf("walpurge_%s_%s_%s", cfg.Version, goos, goarch)
		file := filepath.Join(out, name)
		if err := compile(ctx, cfg, goos, goarch, file); err != nil {
			return fmt.Errorf("build %s: %w", platform, err)
		}
		if err := materials(file, cfg.Version); err != nil {
			return fmt.Errorf("bill of materials for %s: %w", platform, err)
		}
		made = append(made, name, name+".cdx.json")
		if info, err := os.Stat(file); err == nil {
			fmt.Fprintf(cfg.Say, "%s  %.1f MiB\n", name, float64(info.Size())/(1<<20))
		}
	}
	return sums(out, made)
}

// compile sets whatever could differ between two machines: no C, no paths, no
// time, no state of the checkout, no tuning for a processor.
func compile(ctx context.Context, cfg buildConfig, goos, goarch, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", "-s -w -X main.version="+cfg.Version, "-o", file, "./cmd/walpurge")
	cmd.Dir = cfg.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	cmd.Env = append(cmd.Env, cfg.Env...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

func materials(file, version string) (err error) {
	f, err := os.Create(file + ".cdx.json")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return writeSBOM(f, file, version)
}

// sums writes SHA256SUMS in the form that `sha256sum --check` reads.
func sums(dir string, names []string) error {
	var text strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		sum, err := sumOf(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s  %s\n", sum, name)
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(text.String()), 0o644)
}

func sumOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
