package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/rules/rulestest"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func rulesTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run rule test files",
		Long: "Run rule test files, and print for each test that fails what is missing (-) and what is\n" +
			"too much (+). FILE may be a pattern. Exit 0 when all passed, 1 when one failed, 2 for a file\n" +
			"that cannot be used; then no test is run.",
		Example: "  walpurge rules test rules_test.yaml\n  walpurge rules test 'tests/*.yaml' --junit report.xml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(errors.New("name a rule test file, as in walpurge rules test rules_test.yaml"))
			}
			return nil
		},
	}
	junit := cmd.Flags().String("junit", "", "write the results to this `FILE` as JUnit XML, too")
	path := cmd.Flags().StringP("config", "c", "", "a configuration `FILE`, for the sinks and the kinds they take; default: the sinks that rules name, taking all")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, err := testFiles(args)
		if err != nil {
			return usage(err)
		}
		var opts rulestest.Options
		if *path != "" {
			cfg, err := load(*path, true)
			if err != nil {
				return err
			}
			opts.Sinks = cfg.Specs()
		}
		var findings strictyaml.Errors
		var suites []*rulestest.Suite
		for _, file := range files {
			s, err := rulestest.Load(file, opts)
			var found strictyaml.Errors
			if err != nil && !errors.As(err, &found) {
				return unreadable(err)
			}
			findings = append(findings, found...)
			suites = append(suites, s)
		}
		if err := findings.Err(); err != nil {
			return err
		}
		var results []rulestest.Result
		for _, s := range suites {
			results = append(results, s.Run()...)
		}
		failed := printResults(cmd.OutOrStdout(), results)
		if *junit != "" {
			if err := writeJUnit(*junit, results); err != nil {
				return err
			}
		}
		if failed > 0 {
			return &exitError{code: 1}
		}
		return nil
	}
	return cmd
}

// testFiles resolves the arguments; each must be a file or match some.
func testFiles(args []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, arg := range args {
		found := []string{arg}
		if _, err := os.Stat(arg); err != nil {
			if found, err = filepath.Glob(arg); err != nil {
				return nil, fmt.Errorf("%s: %w", display.Name(arg), err)
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: there is no such file, and as a pattern it matches none", display.Name(arg))
		}
		for _, file := range found {
			if info, err := os.Stat(file); err == nil && info.IsDir() {
				return nil, fmt.Errorf("%s is a directory; name files in it, like '%s'", file, filepath.Join(file, "*_test.yaml"))
			}
			if !seen[file] {
				seen[file] = true
				out = append(out, file)
			}
		}
	}
	return out, nil
}

func printResults(out io.Writer, results []rulestest.Result) (failed int) {
	for _, r := range results {
		for _, note := range r.Notes {
			fmt.Fprintf(out, "note %s:%d: %s: %s\n", r.File, r.Line, r.Name, note)
		}
		if r.Passed() {
			continue
		}
		failed++
		fmt.Fprintf(out, "FAIL %s:%d: %s\n", r.File, r.Line, r.Name)
		for _, line := range r.Diff {
			fmt.Fprintln(out, "  "+line)
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", len(results)-failed, failed)
	return failed
}

func writeJUnit(path string, results []rulestest.Result) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write JUnit XML: %w", err)
	}
	if err := rulestest.WriteJUnit(f, results); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
