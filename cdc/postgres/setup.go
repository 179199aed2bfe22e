package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// Step is one statement that brings the database into the state the pipeline
// needs.
type Step struct {
	SQL string
	// Slot marks the creation of the slot, Publication that of the publication.
	Slot, Publication bool
	// message, where it is not empty, is written into the log in the transaction
	// of the statement, which publishes tables.
	message string
	tables  []cdc.Table
}

// Plan compares the database with what the pipeline needs for the tables, which are those of w that can
// be published, and returns the statements that are missing, publication before slot. It changes nothing.
// A *Fault or *Missing says what stands in the way; all are reported together,
// and with any of them the steps must not be run.
func (c Config) Plan(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, w Watch) ([]Step, error) {
	infos, err := Inspect(ctx, conn, c.Publication, tables)
	errs := []error{err, c.preflight(ctx, conn)}
	exists, err := c.publicationExists(ctx, conn)
	errs = append(errs, err)
	slot, err := c.slot(ctx, conn)
	errs = append(errs, err)
	if slot == nil && err == nil {
		errs = append(errs, slotsLeft(ctx, conn))
	}
	var missing []cdc.Table
	for _, t := range tables {
		info := infos[t]
		if info == nil || info.Published {
			continue
		}
		switch {
		case info.Root != "":
			errs = append(errs, partitionFault(t, info.Root))
		case !info.Usable:
			errs = append(errs, info.IdentityFault())
		default:
			missing = append(missing, t)
		}
	}
	w, err = withKin(ctx, conn, w)
	errs = append(errs, err)
	lists, err := c.columnLists(ctx, conn, tables, w.Reads)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	// Columns that another's table lacks count as unknown: no reason not to start.
	ours := slices.DeleteFunc(slices.Clone(tables), func(t cdc.Table) bool { return c.Manage && !infos[t].Owned })
	steps := append(c.publish(missing, lists, w.kin, exists, slot != nil), c.widen(ours, lists, w.kin)...)
	if !exists && slot != nil {
		// A slot reads publications as of its position, so this one could never see
		// the new publication. Its successor makes a gap.
		steps = append(steps, Step{SQL: fmt.Sprintf("SELECT pg_drop_replication_slot('%s')", c.Slot)})
		slot = nil
	}
	if slot == nil {
		create := fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", c.Slot)
		if v, err := serverVersion(ctx, conn); err != nil {
			return nil, err
		} else if v >= 170000 && c.Failover {
			create = fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput', failover => true)", c.Slot)
		}
		steps = append(steps, Step{SQL: create, Slot: true})
	}
	return steps, nil
}

// tablesPerStep bounds the tables of one statement, and with them its locks.
const tablesPerStep = 500

// publish makes the publication hold the tables. Those that enter it while there
// is a slot are announced: what was written to them before is not streamed.
func (c Config) publish(missing []cdc.Table, lists map[cdc.Table]*columnList, kin *kin, exists, slot bool) []Step {
	var steps []Step
	if !exists {
		first := missing[:min(len(missing), tablesPerStep)]
		suffix := ""
		if len(first) > 0 {
			suffix = " FOR TABLE " + quoted(first, lists, kin)
		}
		steps = append(steps, Step{SQL: fmt.Sprintf("CREATE PUBLICATION %s%s WITH (publish_via_partition_root = true)", quote(c.Publication), suffix), tables: first, Publication: true})
		missing = missing[len(first):]
	}
	for chunk := range slices.Chunk(missing, tablesPerStep) {
		s := Step{SQL: fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quote(c.Publication), quoted(chunk, lists, kin)), tables: chunk}
		if slot && exists {
			s.announce(c.Publication, chunk)
		}
		steps = append(steps, s)
	}
	return steps
}

// IdentityFault says why the table cannot be published, and how to fix that.
func (t *TableInfo) IdentityFault() error {
	name, reason, _ := strings.Cut(t.Lacking, "\t")
	failing := "once published, the application's UPDATE and DELETE on it would fail"
	publication := "..."
	if t.publication != "" {
		publication = quote(t.publication)
	}
	switch "\t" + reason {
	case lackingStored:
		return &Fault{
			fmt.Errorf("table %s: the replica identity of %s has a stored generated column, which the publication does not send: %s", t.Table, name, failing),
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish_generated_columns = stored), or ALTER TABLE %s REPLICA IDENTITY USING INDEX ... over other columns", publication, name),
		}
	case lackingVirtual:
		return &Fault{
			fmt.Errorf("table %s: %s has replica identity FULL and a virtual generated column, which PostgreSQL cannot send: %s", t.Table, name, failing),
			fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT where it has a primary key, or ALTER TABLE %s REPLICA IDENTITY USING INDEX ...", name, name),
		}
	}
	fix := fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (...), or ALTER TABLE %s REPLICA IDENTITY USING INDEX ...", name, name)
	if "\t"+reason != lackingKey {
		fix += fmt.Sprintf(", or ALTER TABLE %s REPLICA IDENTITY FULL", name)
	}
	return &Fault{fmt.Errorf("table %s: rows of %s have no replica identity that can be used: %s", t.Table, name, failing), fix}
}

// ensured is what Ensure did.
type ensured struct {
	// slot and publication report what it created.
	slot, publication bool
	// entered are the tables that entered the publication, as announced.
	entered map[cdc.Table]published
}

// Ensure carries out the plan for the tables, which are those of w that can be published.
// Without Manage, anything missing is an *Incomplete.
func (c Config) Ensure(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, w Watch) (ensured, error) {
	done := ensured{entered: make(map[cdc.Table]published)}
	steps, err := c.Plan(ctx, conn, tables, w)
	if err != nil {
		return done, err
	}
	if len(steps) > 0 && !c.Manage {
		return done, c.incomplete(ctx, conn, w)
	}
	for _, s := range steps {
		entered, err := s.run(ctx, conn, c.Publication)
		if err != nil {
			return done, explainStep(s, err)
		}
		done.slot, done.publication = done.slot || s.Slot, done.publication || s.Publication
		maps.Copy(done.entered, entered)
	}
	return done, nil
}

// Setup returns the statements of `walpurge setup`: those of Plan for all tables that w
// means, those of extra, the settings that they need, and, where a slot is created, a note of where it begins
// and of what the tables contain, so that the first start on it is not a gap. Errors in left say which tables that a pattern matches
// must not be published. What setup prints, and what an *Incomplete proposes to run, is from here.
func (c Config) Setup(ctx context.Context, conn *pgx.Conn, w Watch) (steps []Step, left []error, err error) {
	if w, err = withKin(ctx, conn, w); err != nil {
		return nil, nil, err
	}
	tables, left, err := c.ResolveAll(ctx, conn, w)
	if err != nil {
		return nil, nil, err
	}
	if steps, err = c.Plan(ctx, conn, tables, w); err != nil {
		return nil, left, err
	}
	if len(steps) > 0 && steps[len(steps)-1].Slot {
		note, err := c.birthNote(ctx, conn, w)
		if err != nil {
			return nil, left, err
		}
		steps = append(steps, note)
	}
	extra, err := c.extra(ctx, conn, tables, w)
	if err != nil {
		return nil, left, err
	}
	if steps = append(extra, steps...); len(steps) == 0 {
		return nil, left, nil
	}
	own, err := ownSettings(ctx, conn, steps)
	return append(own, steps...), left, err
}

// Apply runs the statements in order until one fails.
func (c Config) Apply(ctx context.Context, conn *pgx.Conn, steps []Step) error {
	for _, s := range steps {
		if _, err := s.run(ctx, conn, c.Publication); err != nil {
			return explainStep(s, err)
		}
	}
	return nil
}

// Ready finds what would keep a daemon from streaming: what Plan finds, and
// statements that it would have to run and may not. The latter is an *Incomplete with the
// statements of Setup. It changes nothing.
func (c Config) Ready(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, w Watch) error {
	steps, err := c.Plan(ctx, conn, tables, w)
	if err != nil || len(steps) == 0 {
		return err
	}
	if !c.Manage {
		return c.incomplete(ctx, conn, w)
	}
	infos, err := Inspect(ctx, conn, c.Publication, tables)
	if err != nil {
		return err
	}
	var may bool
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT pg_catalog.pg_has_role(pubowner, 'USAGE') FROM pg_catalog.pg_publication WHERE pubname = $1),
		pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'))`, c.Publication).Scan(&may)
	if err != nil {
		return fmt.Errorf("read the privileges on publication %q: %w", c.Publication, err)
	}
	for _, s := range steps {
		for _, t := range s.tables {
			may = may && infos[t].Owned
		}
	}
	if len(steps) == 1 && steps[0].Slot || may {
		return nil
	}
	all, _, err := c.Setup(ctx, conn, w)
	if err != nil {
		return err
	}
	return &Incomplete{Fault{fmt.Errorf("user %q may not create or alter publication %q for these tables: that takes CREATE on the database, and the owner of publication and tables",
		conn.Config().User, c.Publication), letOwner + ": " + JoinSteps(all)}}
}

const letOwner = "set postgres.manage: false, and let their owner or a DBA run what `walpurge setup --print` shows"

// Incomplete is a Fault that proposes the statements of Setup.
type Incomplete struct{ Fault }

// Unwrap returns the Fault.
func (e *Incomplete) Unwrap() error { return &e.Fault }

func (c Config) incomplete(ctx context.Context, conn *pgx.Conn, w Watch) error {
	steps, _, err := c.Setup(ctx, conn, w)
	if err != nil {
		return err
	}
	return unmanaged(steps)
}

func unmanaged(steps []Step) error {
	return &Incomplete{Fault{errors.New("publication or slot is incomplete, and postgres.manage is false"), "run as their owner: " + JoinSteps(steps)}}
}

// JoinSteps writes the statements in one line.
func JoinSteps(steps []Step) string {
	sql := make([]string, len(steps))
	for i, s := range steps {
		sql[i] = s.Script() + ";"
	}
	return strings.Join(sql, " ")
}

func explainStep(s Step, err error) error {
	if sqlState(err) == codePrivilege {
		return &Fault{fmt.Errorf("not allowed to run %q: %w", s.SQL, err), letOwner}
	}
	return fmt.Errorf("%s: %w", s.SQL, err)
}

// extra takes out of the publication the tables that no rule names, and the columns that
// none reads. Only an explicit setup does: a running daemon never narrows a publication.
func (c Config) extra(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, w Watch) ([]Step, error) {
	rows, err := conn.Query(ctx, `SELECT n.nspname, r.relname FROM pg_catalog.pg_publication p
		JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid JOIN pg_catalog.pg_class r ON r.oid = pr.prrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE p.pubname = $1 ORDER BY 1, 2`, c.Publication)
	if err != nil {
		return nil, err
	}
	published, err := pgx.CollectRows(rows, pgx.RowToStructByPos[cdc.Table])
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, t := range published {
		if !slices.Contains(tables, t) {
			steps = append(steps, Step{SQL: fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", quote(c.Publication), quoted([]cdc.Table{t}, nil, w.kin))})
		}
	}
	lists, err := c.columnLists(ctx, conn, tables, w.Reads)
	return append(steps, c.narrow(tables, lists, w.kin)...), err
}

// Drop removes slot and publication, slot first so that nothing reads on. It is
// not an error if one of them is not there. A slot that a daemon reads is refused with a *Fault.
func (c Config) Drop(ctx context.Context, conn *pgx.Conn) error {
	// Between two parts of a backlog the slot is not active, and has an owner all the same.
	if pid, err := c.owner(ctx, conn); err != nil {
		return err
	} else if pid != 0 {
		return &Fault{fmt.Errorf("slot %q is in use by PostgreSQL process %d", c.Slot, pid), "stop the daemon first"}
	}
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", c.Slot); err != nil {
		if sqlState(err) == codeObjectInUse {
			return &Fault{fmt.Errorf("slot %q is in use: %w", c.Slot, err), "stop the daemon first"}
		}
		return fmt.Errorf("drop slot %q: %w", c.Slot, err)
	}
	if _, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+quote(c.Publication)); err != nil {
		return fmt.Errorf("drop publication %q: %w", c.Publication, err)
	}
	return nil
}
