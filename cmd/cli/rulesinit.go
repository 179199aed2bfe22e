package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules/draft"
)

func rulesInitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first rules file from the schema of a database",
		Long: "Read tables, primary keys and foreign keys from a live database, and write a rules file that\n" +
			"purges each row, and the lists of the rows that it refers to. Keys and tags in it are proposals:\n" +
			"rename them to what the application uses. Tables that cannot be watched are named in comments with\n" +
			"the SQL that would help. Nothing in the database is changed.",
		Example: "  walpurge rules init --db postgres://app@localhost/shop --out rules/shop.yaml\n" +
			"  walpurge rules init --db postgres://app@localhost/shop --schema public,sales --tables 'products,order*' --kinds keys",
		Args: cobra.NoArgs,
	}
	db := cmd.Flags().String("db", "", "the database, as a libpq `URL` or keywords; PG* variables fill what it leaves out")
	schemas := cmd.Flags().StringSlice("schema", []string{"public"}, "the `schemas`, separated by commas")
	tables := cmd.Flags().StringSlice("tables", nil, "only these `tables`, separated by commas; * stands for any text")
	kinds := cmd.Flags().StringSlice("kinds", []string{"keys", "tags"}, "what the sinks take: keys, tags or both")
	file := cmd.Flags().String("out", "", "write to this `FILE`, which must not exist; default: standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("db") {
			return usage(errors.New("--db is missing; name the database like --db postgres://user@host/database"))
		}
		values, err := draftKinds(*kinds)
		if err != nil {
			return usage(err)
		}
		cfg := postgres.DefaultConfig("draft")
		cfg.URL = *db
		if err := cfg.Validate(); err != nil {
			return usage(fmt.Errorf("--db: %w", err))
		}
		made, err := app.DraftRules(cmd.Context(), cfg, app.DraftOptions{Schemas: *schemas, Tables: *tables, Values: values})
		if err != nil {
			return err
		}
		if *file == "" {
			_, err := io.WriteString(cmd.OutOrStdout(), made.Text)
			return err
		}
		if err := writeNew(*file, made.Text); err != nil {
			return err
		}
		left := ""
		if made.LeftOut > 0 {
			left = "; left out: " + plural.Count(made.LeftOut, "table") + ", see the end of the file"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: %s%s\n", *file, plural.Count(made.Rules, "rule"), left)
		return nil
	}
	return cmd
}

func draftKinds(words []string) (draft.Options, error) {
	var out draft.Options
	for _, w := range words {
		switch w {
		case "keys":
			out.Keys = true
		case "tags":
			out.Tags = true
		default:
			return out, fmt.Errorf("--kinds: %q is not a kind that a draft has; write keys, tags or both", w)
		}
	}
	if !out.Keys && !out.Tags {
		return out, errors.New("--kinds is empty; write keys, tags or both")
	}
	return out, nil
}

// writeNew never replaces a file: what is in it may be somebody's work.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return usage(fmt.Errorf("%s exists; remove it, or choose another --out", path))
	}
	if errors.Is(err, os.ErrNotExist) {
		return usage(fmt.Errorf("there is no directory %s; make it: mkdir -p %s", filepath.Dir(path), filepath.Dir(path)))
	}
	if err != nil {
		return usage(fmt.Errorf("write the draft: %w", err))
	}
	if _, err := f.WriteString(text); err != nil {
		_ = f.Close()
		return fmt.Errorf("write the draft: %w", err)
	}
	return f.Close()
}
