// Command run runs the example systems under load and writes their reports; see package scenario.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/dashboard"
	"github.com/walpurge/walpurge/integration/scenario/restaurant"
	"github.com/walpurge/walpurge/integration/scenario/results"
	"github.com/walpurge/walpurge/integration/scenario/storefront"
)

// scenarios are what -name knows, in the order in which all of them run.
func scenarios() []scenario.Scenario {
	return []scenario.Scenario{restaurant.Scenario(), storefront.Scenario(), dashboard.Scenario()}
}

type flags struct {
	name, walpurge, version, root, only string
	gate, write                         bool
	shorten                             int
}

func main() {
	var f flags
	flag.StringVar(&f.name, "name", "", "the scenario: "+names()+"; empty: all of them")
	flag.StringVar(&f.walpurge, "walpurge", "bin/walpurge", "the program to run")
	flag.StringVar(&f.version, "version", "dev", "its version, for the report")
	flag.StringVar(&f.root, "root", ".", "the repository")
	flag.StringVar(&f.only, "variants", "", "run these variants only, such as 1,3; the report is not written")
	flag.IntVar(&f.shorten, "shorten", 1, "divide the length of the stages by this, to try a scenario; the report is not written")
	flag.BoolVar(&f.gate, "gate", false, "run the gate: compare counts with bounds.json")
	flag.BoolVar(&f.write, "write-bounds", false, "with -gate: write what was measured to bounds.json")
	flag.Parse()
	if err := run(f); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		os.Exit(1)
	}
}

func names() string {
	var out []string
	for _, s := range scenarios() {
		out = append(out, s.Name)
	}
	return strings.Join(out, ", ")
}

func run(f flags) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	program, err := filepath.Abs(f.walpurge)
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("%w: run `make build`", err)
	}
	opt := scenario.Options{Root: f.root, Walpurge: program, Version: f.version, Out: os.Stdout, Shorten: f.shorten}
	if f.only != "" {
		opt.Only = strings.Split(f.only, ",")
	}
	known := false
	for _, s := range scenarios() {
		if f.name != "" && f.name != s.Name {
			continue
		}
		known = true
		if err := one(ctx, f, s, opt); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	if !known {
		return fmt.Errorf("there is no scenario %q; there are: %s", f.name, names())
	}
	return nil
}

// one runs one scenario, and writes its report if that is complete.
func one(ctx context.Context, f flags, s scenario.Scenario, opt scenario.Options) error {
	dir := filepath.Join(f.root, "deploy", "examples", s.Name)
	if f.gate {
		return gate(ctx, f, s, opt, filepath.Join(dir, "bounds.json"))
	}
	r, err := scenario.Run(ctx, s, opt)
	if err != nil {
		return err
	}
	fmt.Print("\n" + results.Report(r))
	if f.only != "" || f.shorten > 1 {
		return nil
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"results.json": string(raw) + "\n", "REPORT.md": results.Report(r), "chart.svg": results.Chart(r)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := updateReadme(f.root); err != nil {
		return err
	}
	if len(r.Void) > 0 {
		return errors.New("the run is void, do not commit its report: " + strings.Join(r.Void, "; "))
	}
	return nil
}

// updateReadme renders the table of results from all results.json.
func updateReadme(root string) error {
	files, err := filepath.Glob(filepath.Join(root, "deploy", "examples", "*", "results.json"))
	if err != nil {
		return err
	}
	var all []results.Results
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var r results.Results
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	path := filepath.Join(root, "README.md")
	readme, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := results.ReplaceTable(string(readme), all)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// gate runs the gate and compares, or writes the bounds.
func gate(ctx context.Context, f flags, s scenario.Scenario, opt scenario.Options, file string) error {
	measured, err := scenario.Gate(ctx, s, opt)
	if err != nil {
		return err
	}
	if f.write {
		raw, err := json.MarshalIndent(results.BoundsOf(measured), "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(file, append(raw, '\n'), 0o644)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	bounds, err := results.ParseBounds(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	verdict := results.Compare(bounds, measured)
	fmt.Print(verdict)
	return verdict.Err()
}
