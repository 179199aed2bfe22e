package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// oracle judges purges by what a reader would have seen when they began: just
// before a purge is passed on it reads the versions of the rows from the
// database, in the snapshot that any reader would have. A committed version is
// covered when some successful purge of its key began with that version, or a
// later one, in sight. Covering the newest version covers the ones before.
type oracle struct {
	t  *testing.T
	db *pgxpool.Pool

	mu    sync.Mutex
	cache map[int64][]purgeRecord
	edge  map[int64][]purgeRecord
	tap   *httptest.Server
	delay time.Duration
}

type purgeRecord struct {
	seen        int64 // the row's version when the purge began
	begun, done time.Time
}

// newOracle puts itself between the daemon and both caches.
func newOracle(r *rig) *oracle {
	o := &oracle{t: r.t, db: r.db, cache: make(map[int64][]purgeRecord), edge: make(map[int64][]purgeRecord)}
	px := newProxy(r.t, r.vk.Addr())
	px.hooks(o.beforeCache, func(token any) { o.record(o.cache, token.(map[int64]purgeRecord)) })
	r.valkeyURL = px.url()
	o.tap = httptest.NewServer(o.edgeTap(r.edge.APIURL()))
	r.t.Cleanup(o.tap.Close)
	r.edgeURL = o.tap.URL + "/client/v4"
	return o
}

func ids(values []string, prefix string) []int64 {
	var out []int64
	for _, v := range values {
		if s, found := strings.CutPrefix(v, prefix); found {
			if id, err := strconv.ParseInt(s, 10, 64); err == nil {
				out = append(out, id)
			}
		}
	}
	return out
}

// look reads what a reader sees now. While the database is away a purge waits here for it: one
// that nothing is known of would be taken for lost.
func (o *oracle) look(values []string, prefix string) map[int64]purgeRecord {
	out := make(map[int64]purgeRecord)
	wanted := ids(values, prefix)
	for deadline := time.Now().Add(30 * time.Second); o.versions(wanted, out) != nil; time.Sleep(20 * time.Millisecond) {
		if o.t.Context().Err() != nil || time.Now().After(deadline) {
			break
		}
	}
	now := time.Now()
	for _, id := range wanted {
		out[id] = purgeRecord{seen: out[id].seen, begun: now}
	}
	return out
}

func (o *oracle) versions(wanted []int64, into map[int64]purgeRecord) error {
	rows, err := o.db.Query(context.Background(), "SELECT id, ver FROM versions WHERE id = ANY($1)", wanted)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, ver int64
		if err := rows.Scan(&id, &ver); err != nil {
			return err
		}
		into[id] = purgeRecord{seen: ver}
	}
	return rows.Err()
}

func (o *oracle) beforeCache(keys []string) any {
	seen := o.look(keys, "product:")
	o.mu.Lock()
	delay := o.delay
	o.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	return seen
}

// slow makes every purge of the cache take longer, which widens the moment in
// which a crash hurts most.
func (o *oracle) slow(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.delay = d
}

func (o *oracle) record(into map[int64][]purgeRecord, seen map[int64]purgeRecord) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, p := range seen {
		p.done = now
		into[id] = append(into[id], p)
		// Purges of older versions cover nothing more; a long run would keep them all.
		if len(into[id]) > keptPurges {
			into[id] = slices.DeleteFunc(into[id], func(q purgeRecord) bool { return q.seen < p.seen })
		}
	}
}

// keptPurges of a row are kept whatever they saw, to be shown when one is missing.
const keptPurges = 32

// edgeTap passes purge requests on to the edge and records those that it
// accepted.
func (o *oracle) edgeTap(target string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var purge struct{ Tags []string }
		_ = json.Unmarshal(body, &purge)
		seen := o.look(purge.Tags, "product-")
		req, err := http.NewRequestWithContext(r.Context(), r.Method, target+strings.TrimPrefix(r.URL.Path, "/client/v4"), bytes.NewReader(body))
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == http.StatusOK && bytes.Contains(answer, []byte(`"success":true`)) {
			o.record(o.edge, seen)
		}
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer)
	}
}

// lost returns one line for every committed version that no purge covers: of the
// cache, or of the edge begun after the cache's was done.
func (o *oracle) lost() []string {
	rows, err := o.db.Query(context.Background(), "SELECT id, ver FROM versions ORDER BY id")
	require.NoError(o.t, err)
	defer rows.Close()
	var out []string
	o.mu.Lock()
	defer o.mu.Unlock()
	for rows.Next() {
		var id, ver int64
		require.NoError(o.t, rows.Scan(&id, &ver))
		var inner time.Time
		for _, p := range o.cache[id] {
			if p.seen >= ver && (inner.IsZero() || p.done.Before(inner)) {
				inner = p.done
			}
		}
		if inner.IsZero() {
			out = append(out, fmt.Sprintf("product %d version %d: no purge of the cache began after it was visible", id, ver))
			continue
		}
		ordered := false
		for _, p := range o.edge[id] {
			ordered = ordered || p.seen >= ver && !p.begun.Before(inner)
		}
		if !ordered {
			out = append(out, fmt.Sprintf("product %d version %d: no purge of the edge began after the cache's was done; cache: %s; edge: %s",
				id, ver, since(inner, o.cache[id]), since(inner, o.edge[id])))
		}
	}
	require.NoError(o.t, rows.Err())
	return out
}

// since tells purges by the version that a reader saw, and by when they began and were
// done, from a moment on.
func since(at time.Time, all []purgeRecord) string {
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprintf("version %d from %s to %s", p.seen, p.begun.Sub(at), p.done.Sub(at)))
	}
	return strings.Join(out, ", ")
}

// writers change products until stopped: inserts, updates, renames, deletes,
// rollbacks and savepoints, each with the version that the oracle reads.
type writers struct {
	stop    context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	commits int
	err     error
}

const products = 3000

func startWriters(r *rig, n int) *writers {
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{stop: stop}
	for i := range n {
		rnd := rand.New(rand.NewPCG(uint64(i), 42))
		w.wg.Go(func() {
			for ctx.Err() == nil {
				err := write(ctx, r.db, rnd)
				w.mu.Lock()
				if err == nil {
					w.commits++
				} else {
					w.err = err
				}
				w.mu.Unlock()
				select {
				case <-time.After(time.Duration(rnd.IntN(3000)) * time.Microsecond):
				case <-ctx.Done():
				}
			}
		})
	}
	r.t.Cleanup(func() { stop(); w.wg.Wait() })
	return w
}

// halt stops the writers and returns how many transactions they committed. A
// writer that could not write would make every verdict hollow.
func (w *writers) halt(t *testing.T) int {
	t.Helper()
	eventually(t, hang, func() bool { return w.count() > 100 }, "the writers write")
	w.stop()
	w.wg.Wait()
	require.NoError(t, w.err)
	return w.commits
}

func write(ctx context.Context, db *pgxpool.Pool, rnd *rand.Rand) error {
	// A writer that is told to stop finishes its transaction.
	ctx = context.WithoutCancel(ctx)
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	id := int64(0)
	for range 1 + rnd.IntN(3) {
		// Rising ids: writers that lock in one order do not deadlock.
		id += 1 + rnd.Int64N(products/3)
		var sql string
		switch rnd.IntN(6) {
		case 0:
			sql = "DELETE FROM products WHERE id = $1::bigint"
		case 1:
			sql = "INSERT INTO products (id, slug) VALUES ($1::bigint, 's' || $1::bigint) ON CONFLICT (id) DO UPDATE SET slug = products.slug || 'x', ver = products.ver + 1"
		default:
			sql = "INSERT INTO products (id, slug) VALUES ($1::bigint, 's' || $1::bigint) ON CONFLICT (id) DO UPDATE SET ver = products.ver + 1"
		}
		tag, err := tx.Exec(ctx, sql, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, "INSERT INTO versions VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET ver = versions.ver + 1", id); err != nil {
			return err
		}
		if rnd.IntN(5) == 0 {
			if _, err := tx.Exec(ctx, "SAVEPOINT s; INSERT INTO categories (id) VALUES (1); ROLLBACK TO s"); err != nil {
				return err
			}
		}
	}
	if rnd.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// count is how many transactions were committed so far.
func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.commits
}

// forgive forgets that writers could not write: the primary was away.
func (w *writers) forgive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = nil
}
