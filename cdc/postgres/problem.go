package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/shape"
)

// Problem is what keeps changes of watched tables from being seen, or keeps rules from
// reading them, until a person acts.
type Problem struct {
	// Tables are the tables concerned; empty: all that are watched.
	Tables []cdc.Table
	// Column is the column concerned, empty where it is the table as a whole.
	Column string
	// Rules are the rules concerned; empty: all rules of the tables.
	Rules []string
	// Covered reports that `unknown` purges what the rules cannot read, so that nothing
	// stays stale.
	Covered bool
	// Unread reports that changes which arrive meanwhile are not purged in full: what the
	// rules derive from the tables is purged once the problem is over.
	Unread bool
	// Text says what is wrong and what to do, in one line.
	Text string
	// Since is when the problem was found.
	Since time.Time

	err error
}

func problemOf(err error, tables ...cdc.Table) Problem {
	return Problem{Tables: tables, Text: oneLine(err), err: err}
}

func tablesOf(steps []Step) []cdc.Table {
	var out []cdc.Table
	for _, s := range steps {
		out = append(out, s.tables...)
	}
	return out
}

// Problems lists what keeps watched tables from being published, makes them be published
// wrongly, or keeps rules from reading them, as of the newest comparison. It is false
// until the first comparison has come to its end.
func (r *Reader) Problems() (problems []Problem, compared bool) {
	w := &r.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.problems), w.done > 0
}

// Compare has the publication and the tables compared with the rules, and blocks until a
// comparison that began after the call has ended, or the context does. It returns the
// position up to which the log must have been purged for what that comparison, or one
// before it, announced. While the reader does not stream, no comparison begins.
func (r *Reader) Compare(ctx context.Context) (announced cdc.LSN, err error) {
	w := &r.watching
	w.mu.Lock()
	want := w.begun + 1
	w.mu.Unlock()
	r.beat.compareSoon()
	for {
		w.mu.Lock()
		done, moved, announced := w.done, w.change(), w.announced
		w.mu.Unlock()
		if done >= want {
			return announced, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// change is closed when the next comparison ends. The caller holds the lock.
func (w *watching) change() <-chan struct{} {
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	return w.moved
}

func (w *watching) begin() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	return w.begun
}

func (w *watching) end(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = number
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// described has the tables compared now if the server describes one otherwise than the
// catalog did: someone has altered it. before is the table that it described just before; a
// partition is described right after its root. It returns the name by which rules watch the table.
func (r *Reader) described(ctx context.Context, rel, before *cdc.Relation) (watched cdc.Table, is bool, err error) {
	w := &r.watching
	if before != nil && before.OID != rel.OID && w.pass(before.OID, rel.OID) {
		if err := r.remember(ctx); err != nil {
			return cdc.Table{}, false, err
		}
		r.beat.compareSoon()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name := cdc.Table{Schema: rel.Schema, Name: rel.Name}
	if info := w.infos[name]; info != nil && !info.describedBy(rel) {
		r.beat.compareSoon()
	}
	if p, known := w.known[name]; known && p.Relation == rel.OID {
		return name, true, nil
	}
	for t, p := range w.known {
		if p.Relation == rel.OID {
			w.renamed[rel.OID] = true
			r.beat.compareSoon()
			return t, true, nil
		}
	}
	return cdc.Table{}, false, nil
}

// pass notes a leaf of which rows come, and reports whether it is a partition of the root that no
// description has and that was not noted before.
func (w *watching) pass(root, leaf uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.described[root]
	if d == nil || d.Kind != shape.PartitionedKind || d.Has(leaf) || w.passing[leaf] == root {
		return false
	}
	w.passing[leaf] = root
	return true
}

// describedBy reports whether the server describes the table as the catalog does.
func (t *TableInfo) describedBy(rel *cdc.Relation) bool {
	var carried []ColumnInfo
	for _, c := range t.Columns {
		if c.Carried {
			carried = append(carried, c)
		}
	}
	same := t.Identity == rel.Identity && len(carried) == len(rel.Columns)
	for i := range rel.Columns {
		same = same && carried[i].Name == rel.Columns[i].Name && carried[i].OID == rel.Columns[i].TypeOID
	}
	return same
}

// unfit reads from the catalog those of the published tables that have changed, and
// returns what rules cannot read of any of them.
func (r *Reader) unfit(ctx context.Context, conn *pgx.Conn, watch Watch, found comparison, tables []listed, options string) ([]Problem, error) {
	if watch.Unfit == nil {
		return nil, nil
	}
	w := &r.watching
	w.mu.Lock()
	infos, digests := make(map[cdc.Table]*TableInfo, len(tables)), make(map[cdc.Table]string, len(tables))
	var altered []cdc.Table
	for i := range tables {
		t := &tables[i]
		now, published := found.known[t.Table]
		if !published {
			continue
		}
		info := w.infos[t.Table]
		if info == nil || w.digests[t.Table] != t.Digest || w.options != options || w.known[t.Table] != now {
			altered = append(altered, t.Table)
		}
		infos[t.Table], digests[t.Table] = info, t.Digest
	}
	w.mu.Unlock()
	read, err := Inspect(ctx, conn, r.cfg.Publication, altered)
	if err != nil {
		return nil, err
	}
	maps.Copy(infos, read)
	if len(read) > 0 {
		r.notNull.Store(notNullOf(infos, found.known))
	}
	w.mu.Lock()
	w.infos, w.digests = infos, digests
	w.mu.Unlock()
	return watch.Unfit(infos), nil
}

// notNullOf lists the columns that cannot be NULL.
func notNullOf(infos map[cdc.Table]*TableInfo, known map[cdc.Table]published) *map[uint32][]string {
	out := make(map[uint32][]string, len(infos))
	for t, info := range infos {
		for i := range info.Columns {
			if info.Columns[i].NotNull {
				out[known[t].Relation] = append(out[known[t].Relation], info.Columns[i].Name)
			}
		}
	}
	return &out
}

// unread lists the published tables of which rules cannot read all that they purge by,
// and those of which they can again.
func (r *Reader) unread(unfit []Problem, known map[cdc.Table]published) (now, readAgain []cdc.Table) {
	for _, p := range unfit {
		if p.Unread {
			now = append(now, p.Tables...)
		}
	}
	slices.SortFunc(now, compareTables)
	now = slices.Compact(now)
	r.watching.mu.Lock()
	defer r.watching.mu.Unlock()
	for _, t := range r.watching.unread {
		if _, published := known[t]; published && !slices.Contains(now, t) {
			readAgain = append(readAgain, t)
		}
	}
	return now, readAgain
}

// same reports that two comparisons found the same problem.
func (p Problem) same(o Problem) bool { return o.Text == p.Text && slices.Equal(o.Rules, p.Rules) }

// setProblems takes over what a comparison found.
func (r *Reader) setProblems(found []Problem) {
	w := &r.watching
	w.mu.Lock()
	before, now := w.problems, time.Now().UTC()
	for i := range found {
		found[i].Since = now
		if n := slices.IndexFunc(before, found[i].same); n >= 0 {
			found[i].Since = before[n].Since
		}
	}
	w.problems = found
	w.mu.Unlock()
	r.logProblems(before, found)
}
