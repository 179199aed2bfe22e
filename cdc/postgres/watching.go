package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	// problems are what only a human can mend, as of the last look.
	problems []string
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

// Problems lists what keeps watched tables from being published, or makes them be
// published wrongly, and what to do, as of the last look; empty if nothing does.
func (r *Reader) Problems() []string {
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	return slices.Clone(r.watching.problems)
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
	if err := r.recall(ctx); err != nil {
		return err
	}
	watch := r.opts.Watch()
	options, fault, err := r.cfg.publication(ctx, conn)
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
	if fault != nil {
		found.problems = append(found.problems, fault)
	}
	added, failed, err := r.mend(ctx, conn, watch, found)
	if err != nil {
		return err
	}
	found.problems = append(found.problems, failed...)
	if len(found.changed) > 0 {
		r.conditions.At(changedByOthers).Observe("count", condition.Sum(len(found.changed)), "first", found.changed[0].String())
		if err := r.announce(ctx, conn, found.changed); err != nil {
			return err
		}
	}
	r.watching.mu.Lock()
	r.watching.known, r.watching.options, r.watching.last = found.known, options, watch
	maps.Copy(r.watching.known, added)
	r.watching.mu.Unlock()
	r.tell(found.problems)
	return r.remember(ctx)
}

// comparison is what a look found.
type comparison struct {
	known    map[cdc.Table]published
	changed  []cdc.Table
	missing  []cdc.Table
	problems []error
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
			c.problems = append(c.problems, fault)
		case !t.Member:
			c.missing = append(c.missing, t.Table)
		default:
			if t.Lacking != "" {
				c.problems = append(c.problems, (&TableInfo{Table: t.Table, Lacking: t.Lacking}).IdentityFault())
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
			c.problems = append(c.problems, &Fault{fmt.Errorf("table %s is gone, or is a partition now: its changes are not seen", t), "make it again, or take its rules out"})
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

// announce writes into the log that the tables left or entered the publication.
// What announces it is believed as long as this process lives.
func (r *Reader) announce(ctx context.Context, conn *pgx.Conn, tables []cdc.Table) error {
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

// tell takes over the problems that a look has found.
func (r *Reader) tell(found []error) {
	r.watching.mu.Lock()
	before := r.watching.problems
	now := make([]string, 0, len(found))
	for _, err := range found {
		now = append(now, strings.Join(strings.Fields(err.Error()), " "))
	}
	r.watching.problems = now
	r.watching.mu.Unlock()
	r.logProblems(before, now)
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
