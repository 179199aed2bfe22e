package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/rulestest"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func rulesExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say which rules match a change, what they purge, and why not",
		Long: "Show what every rule of a table makes of one change: whether it matches, what its templates come\n" +
			"to, and what each sink gets. The change is written in the words of a rule test, as JSON or YAML; or\n" +
			"it is a live row, read in a transaction that cannot write, as the log would carry it; then lookups\n" +
			"are put to the database, too. Where a value could not be built, it says what is purged or parked instead.\n" +
			"The output holds values of the row.",
		Example: "  walpurge rules explain -c walpurge.yaml --change '{\"table\": \"public.products\", \"insert\": {\"id\": 7}}'\n" +
			"  walpurge rules explain -c walpurge.yaml --change @change.json --json\n" +
			"  walpurge rules explain -c walpurge.yaml --db --table public.products --where \"id = 7\" --op delete",
		Args: cobra.NoArgs,
	}
	path := configFlag(cmd)
	change := cmd.Flags().String("change", "", "the change as `JSON`; - reads it from stdin, @FILE from a file")
	asJSON := cmd.Flags().Bool("json", false, "print the explanation as JSON")
	live := liveFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := live.check(cmd); err != nil {
			return usage(err)
		}
		if *change == "" && !live.db {
			return usage(errors.New(`--change is missing; write one like --change '{"table": "public.products", "insert": {"id": 7}}', or read a live row by --db`))
		}
		cfg, err := load(*path, !live.db)
		if err != nil {
			return err
		}
		lock, err := app.Locked(cfg)
		if err != nil {
			return unreadable(err)
		}
		set, err := rules.Load(cfg.Rules, rules.Options{Sinks: cfg.Specs(), Catalog: lock})
		if err != nil {
			return unreadable(err)
		}
		c, err := live.change(cmd, cfg, set, lock, *change)
		if err != nil {
			return err
		}
		if err := c.Unwatched(set); err != nil {
			return usage(err)
		}
		if live.db && !*asJSON {
			printLive(cmd.OutOrStdout(), c.Change)
		}
		explained := live.explain(cmd.Context(), cfg, set, c)
		if *asJSON {
			out, err := rulestest.MarshalExplanations(explained)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		}
		for i, e := range explained {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			printExplanation(cmd.OutOrStdout(), e)
		}
		return nil
	}
	return cmd
}

// readChange reads the argument of --change.
func readChange(arg string, stdin io.Reader, lock *rules.Catalog) (*rulestest.Event, error) {
	name, data := "--change", []byte(arg)
	var err error
	if file, named := strings.CutPrefix(arg, "@"); named {
		name = file
		data, err = readfile.Read(file, strictyaml.MaxBytes)
	} else if arg == "-" {
		name = "stdin"
		data, err = io.ReadAll(io.LimitReader(stdin, strictyaml.MaxBytes+1))
	}
	if err != nil {
		return nil, fmt.Errorf("read the change: %w", err)
	}
	return rulestest.ParseChange(name, data, lock)
}

// printExplanation writes what one rule makes of the change, for people.
func printExplanation(out io.Writer, e rules.Explanation) {
	verdict := "does not match"
	if e.Matched {
		verdict = "matches"
	}
	fmt.Fprintf(out, "rule %s (%s:%d) %s: %s\n", e.Rule, e.File, e.Line, verdict, e.Why)
	for _, t := range e.Tried {
		fmt.Fprintf(out, "  condition with the %s row: %s%s\n", t.Image, t.Result, reason(t.Error))
		for _, term := range t.Terms {
			fmt.Fprintf(out, "    %s: %s%s\n", term.Source, term.Result, reason(term.Error))
			for _, c := range term.Columns {
				fmt.Fprintf(out, "      %s.%s is %s\n", c.Image, c.Column, stateOf(c))
			}
		}
	}
	for _, q := range e.Lookups {
		fmt.Fprintln(out, "  "+lookupLine(q))
	}
	for _, x := range e.Templates {
		printExpansion(out, "  ", x)
	}
	for _, s := range e.Steps {
		fmt.Fprintf(out, "  collapse, past %s in one transaction or waiting at a sink:\n", plural.Count(s.Over, "value"))
		for _, x := range s.Templates {
			printExpansion(out, "    ", x)
		}
	}
	if e.Every > 0 {
		fmt.Fprintf(out, "  each value at most once in %s\n", e.Every)
	}
	for _, p := range e.Purges {
		withheld := ""
		if p.Withheld {
			withheld = " (kept back by rollout)"
		}
		fmt.Fprintf(out, "  -> %s: %s%s\n", p.Sink, purgeText(p), withheld)
	}
}

// lookupLine says what is asked for one image, and what came of it.
func lookupLine(q rules.Asked) string {
	from := ""
	if q.Image != "" {
		from = " for the " + q.Image + " row"
	}
	args := make([]string, len(q.Args))
	for i, a := range q.Args {
		args[i] = rulestest.Printable(a)
	}
	unknown := ""
	if q.Unknown {
		unknown = "; `unknown` stands in"
	}
	return fmt.Sprintf("lookup %s%s: %s with (%s): %s%s%s", q.Lookup, from, strings.Join(strings.Fields(q.SQL), " "), strings.Join(args, ", "), plural.Count(q.Rows, "row"), reason(q.Skipped), unknown)
}

// printExpansion writes what a template comes to.
func printExpansion(out io.Writer, indent string, x rules.Expansion) {
	from := ""
	if x.Image != "" {
		from = " from the " + x.Image + " row"
	}
	values := make([]string, len(x.Values))
	for i, v := range x.Values {
		values[i] = rulestest.Printable(v)
	}
	made := strings.Join(values, ", ")
	if made == "" {
		made = "nothing"
	}
	fmt.Fprintf(out, "%s%s %s%s: %s%s%s\n", indent, x.Kind, rulestest.Printable(x.Template), from, made, reason(x.Skipped), insteadText(x))
}

// insteadText says what happens for values that could not be built.
func insteadText(x rules.Expansion) string {
	switch {
	case !x.Unknown:
		return ""
	case len(x.Instead) == 0:
		return "; `unknown` stands in"
	}
	var parts []string
	for _, i := range x.Instead {
		if i.Parked() {
			parts = append(parts, "parked at "+i.Sink)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s purge %s at %s", patternWord(i.Kind), rulestest.Printable(i.Value), i.Sink))
	}
	return "; no `unknown`: " + strings.Join(parts, ", ")
}

func patternWord(k invalidation.Kind) string {
	if k == invalidation.KeyPattern {
		return "pattern"
	}
	return "prefix"
}

// purgeText says what a sink gets.
func purgeText(p rules.Purge) string {
	switch {
	case p.Parked && p.Kind == invalidation.Everything: // of a message, which may name any kind
		return "parked, one item for " + rulestest.Printable(p.For)
	case p.Parked:
		return fmt.Sprintf("parked, one item for %s %s", p.Kind, rulestest.Printable(p.For))
	case p.Kind == invalidation.Everything:
		return p.Kind.String()
	case p.For != "":
		return fmt.Sprintf("%s %s, at most once a minute", p.Kind, rulestest.Printable(p.Value))
	}
	return p.Kind.String() + " " + rulestest.Printable(p.Value)
}

func stateOf(c rules.ColumnValue) string {
	switch c.State {
	case "value":
		return rulestest.Printable(c.Value)
	case "null":
		return "NULL"
	}
	return c.State
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}
