package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// watching is what this process knows of the publication, to notice what others
// do to it: it outlives sessions, so that what happens between them counts too.
type watching struct {
	mu sync.Mutex
	// known has the watched tables that are published; nil before the first look.
	known map[cdc.Table]published
	// options changes with every change of the publication's own options.
	options string
	// last is what the rules watched at the last look: what new rules watch beyond
	// it did not enter the publication by that.
	last Watch
	// nonces are those of announcements that this process wrote.
	nonces map[string]bool
	// problems are those that the last comparison found.
	problems []Problem
	// infos describe the published tables, as of shapes.
	infos  map[cdc.Table]*TableInfo
	shapes map[cdc.Table]string
	// unread are the tables of which rules cannot read all that they purge by.
	unread []cdc.Table
	// begun counts comparisons, done is the number of the newest that came to its end, and
	// moved is closed when that changes.
	begun, done uint64
	moved       chan struct{}
	// announced is the end of the log after the newest announcement.
	announced cdc.LSN
	// saved is what the memory holds.
	saved string
}

// entered notes tables that we published ourselves, and that are announced.
func (w *watching) entered(tables map[cdc.Table]published) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known != nil {
		maps.Copy(w.known, tables)
	}
}

// wrote reports whether an announcement is one that this process wrote itself.
func (w *watching) wrote(nonce string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nonces[nonce]
}

// errPublicationGone ends a session: the slot that it reads cannot see a
// publication that is made later.
var errPublicationGone = errors.New("the publication was dropped")

// look compares the publication with what the rules watch. Tables that are not
// published are added where that is ours to do; those that left or entered
// without us are announced in the log, so that what is derived from them is
// purged; the rest is a problem, which is told once and counted until it is over.
func (r *Reader) look(ctx context.Context, conn *pgx.Conn) error {
	r.widening.Lock()
	defer r.widening.Unlock()
	number := r.watching.begin()
	if err := r.recall(ctx); err != nil {
		return err
	}
	watch := r.opts.Watch()
	options, faults, err := r.cfg.publication(ctx, conn)
	if err != nil {
		return err
	}
	if options == "" {
		return errPublicationGone
	}
	tables, err := r.cfg.list(ctx, conn, watch)
	if err != nil {
		return err
	}
	found := r.compare(watch, tables, options)
	found.problems = append(found.problems, faults...)
	added, failed, err := r.mend(ctx, conn, watch, found)
	if err != nil {
		return err
	}
	found.problems = append(found.problems, failed...)
	maps.Copy(found.known, added)
	unfit, err := r.unfit(ctx, conn, watch, found, tables, options)
	if err != nil {
		return err
	}
	found.problems = append(found.problems, unfit...)
	unread, readAgain := r.unread(unfit, found.known)
	if len(found.changed) > 0 {
		r.conditions.At(changedByOthers).Observe("count", condition.Sum(len(found.changed)), "first", found.changed[0].String())
	}
	if len(readAgain) > 0 {
		r.conditions.At(readableAgain).Observe("count", condition.Sum(len(readAgain)), "first", readAgain[0].String())
	}
	if err := r.announce(ctx, conn, append(found.changed, readAgain...), len(added) > 0); err != nil {
		return err
	}
	r.watching.mu.Lock()
	r.watching.known, r.watching.options, r.watching.last, r.watching.unread = found.known, options, watch, unread
	r.watching.mu.Unlock()
	r.setProblems(found.problems)
	if err := r.remember(ctx); err != nil {
		return err
	}
	r.watching.end(number)
	return nil
}

// comparison is what a look found.
type comparison struct {
	known    map[cdc.Table]published
	changed  []cdc.Table
	missing  []cdc.Table
	problems []Problem
}

func (r *Reader) compare(watch Watch, tables []listed, options string) comparison {
	w := &r.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	c := comparison{known: make(map[cdc.Table]published, len(tables))}
	there := make(map[cdc.Table]bool, len(tables))
	for i := range tables {
		t := &tables[i]
		there[t.Table] = true
		before, known := w.known[t.Table]
		switch fault := r.cfg.unpublishable(t); {
		case fault != nil:
			c.problems = append(c.problems, problemOf(fault, t.Table))
		case !t.Member:
			c.missing = append(c.missing, t.Table)
		default:
			if t.Lacking != "" {
				c.problems = append(c.problems, problemOf((&TableInfo{Table: t.Table, Lacking: t.Lacking}).IdentityFault(), t.Table))
			}
			c.known[t.Table] = t.published
			if w.known != nil && (!known || before != t.published || w.options != options) && (known || w.last.has(t.Table)) {
				c.changed = append(c.changed, t.Table)
			}
		}
	}
	for t := range w.known {
		if !there[t] && watch.has(t) {
			c.changed = append(c.changed, t)
		}
	}
	for _, t := range watch.Tables {
		if !there[t] {
			c.problems = append(c.problems, problemOf(&Fault{
				fmt.Errorf("table %s does not exist any more, or is a partition, unlogged or temporary now: its changes are not seen", t),
				"create it, or correct its rules",
			}, t))
		}
	}
	slices.SortFunc(c.changed, compareTables)
	return c
}

// sortedTables lists the tables of a map in order.
func sortedTables(m map[cdc.Table]published) []cdc.Table {
	return slices.SortedFunc(maps.Keys(m), compareTables)
}

func compareTables(a, b cdc.Table) int {
	return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
}

// announce writes into the log that changes of the tables may not have been seen or not
// been read, so that what is derived from them is purged. The announcement is believed as
// long as this process lives. others reports that the steps before have announced tables.
func (r *Reader) announce(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, others bool) error {
	if len(tables) == 0 && !others {
		return nil
	}
	if len(tables) > 0 {
		if err := r.announceTables(ctx, conn, tables); err != nil {
			return err
		}
	}
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	lsn, err := cdc.ParseLSN(text)
	if err != nil {
		return err
	}
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	r.watching.announced = lsn
	return nil
}

func (r *Reader) announceTables(ctx context.Context, conn *pgx.Conn, tables []cdc.Table) error {
	a := announcement{Publication: r.cfg.Publication, Tables: tables, Nonce: rand.Text()}
	r.watching.mu.Lock()
	if r.watching.nonces == nil {
		r.watching.nonces = make(map[string]bool)
	}
	r.watching.nonces[a.Nonce] = true
	r.watching.mu.Unlock()
	if _, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, $1::text, $2::text)", tablesPrefix, encode(a)); err != nil {
		return fmt.Errorf("announce tables that entered or left the publication: %w", err)
	}
	return nil
}

// Widen publishes the tables that a reload added, before the new rules begin.
func (r *Reader) Widen(ctx context.Context, w Watch) error {
	r.widening.Lock()
	defer r.widening.Unlock()
	conn, err := r.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tables, _, err := r.cfg.Resolve(ctx, conn, w)
	if err != nil {
		return err
	}
	done, err := r.cfg.Ensure(ctx, conn, tables, w)
	r.watching.entered(done.entered)
	return err
}
