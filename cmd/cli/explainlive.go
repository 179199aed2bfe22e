package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/rulestest"
)

// liveRow is which live row to explain a change of.
type liveRow struct {
	db               bool
	table, where, op string

	named     cdc.Table
	operation cdc.Op
}

func liveFlags(cmd *cobra.Command) *liveRow {
	l := &liveRow{}
	cmd.Flags().BoolVar(&l.db, "db", false, "read a live row from the database of the configuration, instead of --change")
	cmd.Flags().StringVar(&l.table, "table", "", "with --db: the `TABLE`, as schema.name")
	cmd.Flags().StringVar(&l.where, "where", "", "with --db: an SQL `CONDITION` that one row meets; it is run as it is, and cannot write")
	cmd.Flags().StringVar(&l.op, "op", "update", "with --db: what happens to the row: `insert`, update or delete")
	return l
}

// check reads the flags together.
func (l *liveRow) check(cmd *cobra.Command) error {
	set := cmd.Flags().Changed
	if !l.db {
		for _, flag := range []string{"table", "where", "op"} {
			if set(flag) {
				return fmt.Errorf("--%s is about a live row; add --db", flag)
			}
		}
		return nil
	}
	if set("change") {
		return errors.New("--change and --db do not go together; a change is written or read")
	}
	schema, name, _ := strings.Cut(l.table, ".")
	switch {
	case l.table == "":
		return errors.New("--table is missing; name it with its schema, like --table public.products")
	case schema == "" || name == "":
		return fmt.Errorf("--table %q: want schema.name, like public.products", l.table)
	case strings.TrimSpace(l.where) == "":
		return errors.New(`--where is missing; write a condition that one row meets, like --where "id = 7"`)
	}
	l.named = cdc.Table{Schema: schema, Name: name}
	for _, op := range []cdc.Op{cdc.Insert, cdc.Update, cdc.Delete} {
		if op.String() == l.op {
			l.operation = op
			return nil
		}
	}
	return fmt.Errorf("--op %q: want insert, update or delete", l.op)
}

// change is the one to explain: read from the database, or written in arg.
func (l *liveRow) change(cmd *cobra.Command, cfg *config.Config, set *rules.Set, lock *rules.Catalog, arg string) (*rulestest.Event, error) {
	if !l.db {
		c, err := readChange(arg, cmd.InOrStdin(), lock)
		return c, unreadable(err)
	}
	// Before a database is asked.
	if err := (&rulestest.Event{Change: &cdc.Change{Rel: &cdc.Relation{Schema: l.named.Schema, Name: l.named.Name}}}).Unwatched(set); err != nil {
		return nil, usage(err)
	}
	c, err := app.LiveChange(cmd.Context(), cfg.Postgres, l.named, l.where, l.operation)
	if err != nil {
		return nil, err
	}
	return &rulestest.Event{Change: c}, nil
}

// explain says what the rules make of a change. With a live row, the database answers their lookups.
func (l *liveRow) explain(ctx context.Context, cfg *config.Config, set *rules.Set, c *rulestest.Event) []rules.Explanation {
	if !l.db {
		return c.Explain(ctx, set)
	}
	answer, end := app.LiveAnswers(ctx, cfg.Postgres)
	defer end()
	return set.Explain(ctx, c.Change, answer)
}

// printLive shows what was read: the text of each column as the log has it.
func printLive(out io.Writer, c *cdc.Change) {
	sent := map[cdc.Op]string{
		cdc.Insert: "the new row is sent",
		cdc.Update: "the new row is sent, and no old one, since the identity stays as it is",
		cdc.Delete: "of the old row the identity is sent",
	}[c.Op]
	if c.Rel.Identity == cdc.IdentityFull && c.Op != cdc.Insert {
		sent = "the whole old row is sent"
	}
	fmt.Fprintf(out, "%s of a row of %s, replica identity %s: %s\n", c.Op, c.Rel, c.Rel.Identity, sent)
	row := c.New
	if row == nil {
		row = c.Old
	}
	for i, v := range row {
		text := "NULL"
		switch v.Kind {
		case cdc.Text:
			text = rulestest.Printable(string(v.Data))
		case cdc.Absent:
			continue
		}
		fmt.Fprintf(out, "  %s = %s\n", c.Rel.Columns[i].Name, text)
	}
	fmt.Fprintln(out)
}
