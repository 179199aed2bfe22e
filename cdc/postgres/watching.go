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
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/shape"
)

// watching is what this process knows of the publication, to notice what others
// do to it: it outlives sessions, so that what happens between them counts too.
type watching struct {
	// saving is held while the memory is written, so that no older state replaces a newer one.
	saving sync.Mutex
	mu     sync.Mutex
	// near is how many tables patterns match only nearly.
	near int
	// known has the watched tables that exist; nil before the first comparison. Those that are not published
	// have the Entry notPublished: once they are gone, or published, what is derived from them is purged.
	known map[cdc.Table]published
	// options changes with every change of the publication's own options.
	options string
	// last is what the rules watched at the last look: what new rules watch beyond
	// it did not enter the publication by that.
	last Watch
	// described has the watched tables by OID, as they were when what differed from before was
	// announced. The map is replaced, and never changed.
	described map[uint32]*description
	// early has the tables that are described before the rules which watch them are in service.
	early map[uint32]bool
	// passing has partitions of which the stream brought rows, and which no description has, with
	// the OID of their root. One that is dropped before the next comparison was never seen otherwise. The
	// memory has them before their rows are handed over, since the slot is confirmed past these.
	passing map[uint32]uint32
	// renamed has tables that the stream described under another name than the one that rules watch.
	// What is read under that name once they have it again was not there when their changes were purged.
	renamed map[uint32]bool
	// nonce is in the announcements that this process wrote. The memory keeps it, since an
	// announcement may come back in another process.
	nonce string
	// formerly is the publication that an earlier process read by, if it was another one and the slot has not
	// been moved since.
	formerly string
	// recalled reports that the memory was read.
	recalled bool
	// names has the watched tables by OID, as of the newest comparison. It is set before their changes are
	// announced, so that each row behind an announcement finds it. The map is replaced, and never changed.
	names atomic.Pointer[map[uint32]cdc.Table]
	// problems are those that the last comparison found.
	problems []Problem
	// infos are the published tables, as of descriptions with these digests.
	infos   map[cdc.Table]*TableInfo
	digests map[cdc.Table]string
	// unread are the tables of which rules cannot read all that they purge by.
	unread []cdc.Table
	// begun counts comparisons, done is the number of the newest that came to its end, and
	// moved is closed when that changes.
	begun, done uint64
	moved       chan struct{}
	// announced is the end of the log after the newest announcement.
	announced cdc.LSN
	// saved is what the memory holds, packed is described as the memory has it; nil: not up to date.
	saved  string
	packed []byte
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
	return nonce != "" && nonce == w.nonce
}

// ownNonce is the nonce of this reader's announcements, empty if it has written none.
func (w *watching) ownNonce() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nonce
}

// name takes over the names of the watched tables.
func (w *watching) name(tables []listed) {
	names := make(map[uint32]cdc.Table, len(tables))
	for i := range tables {
		names[tables[i].Relation] = tables[i].Table
	}
	w.names.Store(&names)
}

// nameOf returns the name that a watched table had at the newest comparison.
func (w *watching) nameOf(oid uint32) (name cdc.Table, is bool) {
	if names := w.names.Load(); names != nil {
		name, is = (*names)[oid]
	}
	return name, is
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
	if err := r.recall(ctx, conn); err != nil {
		return err
	}
	if err := r.stepReconnect(ctx, conn); err != nil {
		return err
	}
	kin, err := r.readKin(ctx, conn)
	if err != nil {
		return err
	}
	watch := r.opts.Watch().with(kin)
	options, faults, err := r.cfg.publication(ctx, conn)
	if err != nil {
		return err
	}
	if options == "" {
		return errPublicationGone
	}
	r.watching.mu.Lock()
	before := r.watching.described
	r.watching.mu.Unlock()
	tables, described, near, err := r.cfg.list(ctx, conn, watch, before)
	if err != nil {
		return err
	}
	if err := r.cfg.enterSchemas(ctx, conn, tables); err != nil {
		return err
	}
	r.nearMisses(near)
	different, err := r.differences(ctx, conn, watch, tables, described)
	if err != nil {
		return err
	}
	passed := r.watching.passed(described, different)
	found := r.compare(watch, tables, options, different)
	found.problems = append(found.problems, faults...)
	found.problems = append(found.problems, unloggedNodes(tables, described)...)
	r.watching.name(tables)
	added, failed, err := r.mend(ctx, conn, watch, found)
	if err != nil {
		return err
	}
	found.problems = append(found.problems, failed...)
	maps.Copy(found.known, added)
	maps.DeleteFunc(found.away, func(t cdc.Table, _ published) bool { _, entered := added[t]; return entered })
	unfit, err := r.unfit(ctx, conn, watch, found, tables, options)
	if err != nil {
		return err
	}
	found.problems = append(found.problems, unfit...)
	unread, readAgain := r.unread(unfit, found.known)
	found.observe(r.conditions)
	if len(readAgain) > 0 {
		r.conditions.At(readableAgain).Observe("count", condition.Sum(len(readAgain)), "first", readAgain[0].String())
		found.changes = append(found.changes, tableChange{cdc.TableReadable, readAgain})
	}
	if err := r.announce(ctx, conn, found.changes, len(added) > 0); err != nil {
		return err
	}
	maps.Copy(found.known, found.away)
	r.watching.mu.Lock()
	r.watching.known, r.watching.options, r.watching.last, r.watching.unread = found.known, options, watch, unread
	r.watching.describe(described)
	for _, leaf := range passed {
		delete(r.watching.passing, leaf)
	}
	for _, oid := range found.renamed {
		delete(r.watching.renamed, oid)
	}
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
	known map[cdc.Table]published
	// away has the tables that exist and are not published.
	away     map[cdc.Table]published
	changes  []tableChange
	missing  []cdc.Table
	problems []Problem
	// renamed are those of watching.renamed that the comparison answers.
	renamed []uint32
}

// tableChange is a cause for which what rules derive from tables is purged.
type tableChange struct {
	cause  cdc.TableCause
	tables []cdc.Table
}

// changed adds a table to those of a cause.
func (c *comparison) changed(cause cdc.TableCause, t cdc.Table) {
	i := slices.IndexFunc(c.changes, func(k tableChange) bool { return k.cause == cause })
	if i < 0 {
		i = len(c.changes)
		c.changes = append(c.changes, tableChange{cause: cause})
	}
	if !slices.Contains(c.changes[i].tables, t) {
		c.changes[i].tables = append(c.changes[i].tables, t)
	}
}

// observe logs what changed without this daemon.
func (c *comparison) observe(log *condition.Log) {
	for _, k := range c.changes {
		slices.SortFunc(k.tables, compareTables)
		if k.cause == cdc.TablePublished {
			log.At(changedByOthers).Observe("count", condition.Sum(len(k.tables)), "first", k.tables[0].String())
		} else {
			log.At(changedShape, "cause", string(k.cause)).Observe("count", condition.Sum(len(k.tables)), "first", k.tables[0].String())
		}
	}
}

func (r *Reader) compare(watch Watch, tables []listed, options string, different map[uint32][]shape.Difference) comparison {
	w := &r.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	c := comparison{known: make(map[cdc.Table]published, len(tables)), away: make(map[cdc.Table]published), renamed: slices.Collect(maps.Keys(w.renamed))}
	there := make(map[cdc.Table]bool, len(tables))
	for i := range tables {
		t := &tables[i]
		there[t.Table] = true
		before, known := w.known[t.Table]
		switch fault := r.cfg.unpublishable(t); {
		case fault != nil:
			c.problems = append(c.problems, problemOf(fault, watch.concerned(t.Table)...))
			c.away[t.Table] = published{t.Relation, notPublished}
		case !t.Member:
			c.missing = append(c.missing, t.Table)
			c.away[t.Table] = published{t.Relation, notPublished}
		default:
			if t.Lacking != "" {
				c.problems = append(c.problems, problemOf((&TableInfo{Table: t.Table, Lacking: t.Lacking, publication: r.cfg.Publication}).IdentityFault(), watch.concerned(t.Table)...))
			}
			c.known[t.Table] = t.published
			// What is not known may be new to the rules only; after a start it may have been away.
			if w.known != nil && (!known || before != t.published || w.options != options || w.renamed[t.Relation]) && (known || w.done == 0 || w.last.has(t.Table)) {
				c.changed(cdc.TablePublished, t.Table)
			}
			for _, d := range different[t.Relation] {
				c.changed(d.Cause, t.Table)
			}
		}
	}
	for t := range w.known {
		if !there[t] && watch.has(t) {
			c.changed(cdc.TablePublished, t)
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
	return c
}

// nearMisses logs the tables that patterns match only nearly, and counts them.
func (r *Reader) nearMisses(near []NearMiss) {
	r.watching.mu.Lock()
	r.watching.near = len(near)
	r.watching.mu.Unlock()
	if len(near) == 0 {
		r.conditions.At(nearMiss).End()
		return
	}
	r.conditions.At(nearMiss).Observe("count", len(near), "first", near[0].String(), "pattern", near[0].Pattern)
}

// NearMisses returns how many tables patterns match only nearly, as of the last heartbeat.
func (r *Reader) NearMisses() int {
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	return r.watching.near
}

// sortedTables lists the tables of a map in order.
func sortedTables(m map[cdc.Table]published) []cdc.Table {
	return slices.SortedFunc(maps.Keys(m), compareTables)
}

func compareTables(a, b cdc.Table) int {
	return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
}

// announce writes into the log that changes of the tables may not have been seen or not
// been read, so that what is derived from them is purged. others reports that the steps before
// have announced tables.
func (r *Reader) announce(ctx context.Context, conn *pgx.Conn, changes []tableChange, others bool) error {
	if len(changes) == 0 && !others {
		return nil
	}
	if len(changes) > 0 {
		if err := r.announceTables(ctx, conn, changes); err != nil {
			return err
		}
	}
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text").Scan(&text); err != nil {
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

func (r *Reader) announceTables(ctx context.Context, conn *pgx.Conn, changes []tableChange) error {
	a := announcement{Publication: r.cfg.Publication}
	for _, k := range changes {
		a.Causes = append(a.Causes, k.cause)
		a.Tables = append(a.Tables, k.tables...)
	}
	slices.SortFunc(a.Tables, compareTables)
	a.Tables = slices.Compact(a.Tables)
	return r.announceMessage(ctx, conn, a)
}

// announceMessage writes an announcement with the reader's nonce, in several messages where it is long.
func (r *Reader) announceMessage(ctx context.Context, conn *pgx.Conn, a announcement) error {
	r.watching.mu.Lock()
	if r.watching.nonce == "" {
		r.watching.nonce = rand.Text()
	}
	a.Nonce = r.watching.nonce
	r.watching.mu.Unlock()
	for _, part := range a.parts() {
		if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1::pg_catalog.text, $2::pg_catalog.text)", tablesPrefix, encode(part)); err != nil {
			return fmt.Errorf("announce tables whose rows are in doubt: %w", err)
		}
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
	kin, err := r.readKin(ctx, conn)
	if err != nil {
		return err
	}
	w = w.with(kin)
	if err := r.describeFirst(ctx, conn, w); err != nil {
		return err
	}
	tables, _, err := r.cfg.Resolve(ctx, conn, w)
	if err != nil {
		return err
	}
	done, err := r.cfg.Ensure(ctx, conn, tables, w)
	r.watching.entered(done.entered)
	return err
}
