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
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/rules/draft"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func rulesInitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first rules file from the schema of a database",
		Long: "Read tables, primary keys and foreign keys from a live database, and write a rules file that\n" +
			"purges each row, and the lists of the rows that it refers to. Keys and tags in it are proposals:\n" +
			"rename them to what the application uses. Tables that cannot be watched are named in comments with\n" +
			"the SQL that would help. Nothing in the database is changed.\n\n" +
			"The draft has keys and tags as far as the sinks in -c take them. With --db alone it has keys.",
		Example: "  walpurge rules init -c walpurge.yaml --out rules/shop.yaml\n" +
			"  walpurge rules init --db postgres://app@localhost/shop --schema public,sales --tables 'products,order*' --kinds keys,tags",
		Args: cobra.NoArgs,
	}
	path := configFlag(cmd)
	db := cmd.Flags().String("db", "", "the database, as a libpq `URL` or keywords; PG* variables fill what it leaves out; default: that of -c")
	schemas := cmd.Flags().StringSlice("schema", []string{"public"}, "the `schemas`, separated by commas")
	tables := cmd.Flags().StringSlice("tables", nil, "only these `tables`, separated by commas; * matches any text")
	kinds := cmd.Flags().StringSlice("kinds", nil, "the `kinds` of value: keys, tags or both; default: what the sinks of -c take, or keys without -c")
	file := cmd.Flags().String("out", "", "write to this `FILE`, which must not exist; default: standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := draftOf(cmd, *path, *db)
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("kinds") {
			d.note = ""
			if d.values, err = draftKinds(*kinds); err != nil {
				return usage(err)
			}
		}
		if !d.values.Keys && !d.values.Tags {
			return usage(fmt.Errorf("no sink in %s takes keys or tags, which a draft is made of; write the rules for what they take, see docs/rules.md", *path))
		}
		made, err := app.DraftRules(cmd.Context(), d.db, app.DraftOptions{Schemas: *schemas, Tables: *tables, Values: d.values})
		if err != nil {
			return err
		}
		if *file == "" {
			if _, err := io.WriteString(cmd.OutOrStdout(), made.Text); err != nil {
				return err
			}
			d.say(cmd)
			return nil
		}
		if err := writeNew(*file, made.Text); err != nil {
			return err
		}
		left := ""
		if made.LeftOut > 0 {
			left = "; left out: " + plural.Count(made.LeftOut, "table") + ", see the end of the file"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: %s%s\n", *file, plural.Count(made.Rules, "rule"), left)
		d.say(cmd)
		return nil
	}
	return cmd
}

// draftSource is the database that a draft is about, and what its rules may have.
type draftSource struct {
	db     postgres.Config
	values draft.Options
	// note says what was assumed, empty if nothing was.
	note string
}

func (d *draftSource) say(cmd *cobra.Command) {
	if d.note != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), d.note)
	}
}

// draftOf reads -c, or takes --db. The file -c is not needed with --db, and its rules need
// not exist yet.
func draftOf(cmd *cobra.Command, path, db string) (draftSource, error) {
	byURL := cmd.Flags().Changed("db")
	var out draftSource
	if byURL {
		out.db = postgres.DefaultConfig("draft")
		out.db.URL = db
		if err := out.db.Validate(); err != nil {
			return out, usage(fmt.Errorf("--db: %w", err))
		}
		if !cmd.Flags().Changed("config") {
			out.values.Keys = true
			out.note = "The draft has keys only, which Valkey and Redis take. For tags, which CDNs take, name your sinks with -c walpurge.yaml, or write --kinds keys,tags"
			return out, nil
		}
	}
	cfg, err := config.Load(path, config.Options{Env: os.LookupEnv, WithoutRules: true})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return out, usage(fmt.Errorf("%w, or a database with --db postgres://user@host/database", err))
	}
	if err != nil {
		return out, err
	}
	if !byURL {
		out.db = cfg.Postgres
	}
	for _, s := range cfg.Sinks {
		out.values.Keys = out.values.Keys || s.Takes.Has(invalidation.Key)
		out.values.Tags = out.values.Tags || s.Takes.Has(invalidation.Tag)
	}
	return out, nil
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

// writeNew never replaces a file: its content may be edited already.
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
