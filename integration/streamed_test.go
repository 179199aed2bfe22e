package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// historyRules have each kind of what a change can come to. The first one's values are
// what the journal tells.
const historyRules = `
rules:
  - {name: written, table: public.items, ops: [insert, update], sinks: [cache], keys: ["h:{new.mark}:{id}"]}
  - {name: deleted, table: public.items, ops: [delete], sinks: [cache], keys: ["d:{id}"]}
  - name: collapsing
    table: public.items
    sinks: [edge]
    tags: ["item-{id}"]
    collapse: [{over: 6, tags: ["tens-{id / 10}"]}, {over: 12, tags: [items]}]
  - name: asking
    table: public.items
    sinks: [cache]
    lookup: {m: {sql: "SELECT name FROM menus WHERE id = $1", args: ["{id}"]}}
    keys: ["menu:{m.name}:{new.mark}"]
    unknown: {keys: [menus]}
  - name: own
    table: public.own_{n}
    keys: ["own:{n}:{id}:{extra}"]
    unknown: {keys: ["own:unknown"]}
  - {name: hand, message: cache.purge}
`

// witness is a router's publisher, and tells apart what each transaction came to.
type witness struct {
	*router.Router
	board    *watermark.Board
	sessions int
	streamed int
	aborted  [2]int // whole transactions, subtransactions

	mu   sync.Mutex
	now  map[string]bool
	came map[uint64]map[string]bool
}

func (w *witness) Start(ctx context.Context, s cdc.Session) error {
	w.sessions++
	err := w.Router.Start(ctx, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = make(map[string]bool) // what is left of the session before comes again
	return err
}

func (w *witness) Abort(ctx context.Context, tx *cdc.Txn) error {
	if tx.Sub == tx.XID {
		w.aborted[0]++
	} else {
		w.aborted[1]++
	}
	return w.Router.Abort(ctx, tx)
}

// Commit has everything published that the transaction came to.
func (w *witness) Commit(ctx context.Context, tx *cdc.Txn) error {
	if tx.Streamed {
		w.streamed++
	}
	if err := errors.Join(w.Router.Commit(ctx, tx), w.Router.Rest(ctx, cdc.Rest{})); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.came[tx.XID] = w.now
	w.now = make(map[string]bool)
	return nil
}

func (w *witness) Publish(_ context.Context, b *invalidation.Batch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.Flush {
		w.now[b.Sink+" flush"] = true
	}
	for _, item := range b.Items {
		for k, values := range item.Values {
			for _, v := range values {
				w.now[fmt.Sprintf("%s %s %s %s", b.Sink, item.Rule, invalidation.Kind(k), v)] = true
			}
		}
		for _, c := range item.Coarser {
			for k, values := range c.Values {
				for _, v := range values {
					w.now[fmt.Sprintf("%s %s %s %s for more than %d", b.Sink, item.Rule, invalidation.Kind(k), v, c.Over)] = true
				}
			}
		}
	}
	return nil
}

func (w *witness) Claim(_ context.Context, at cdc.Position, _ time.Time) error {
	w.board.Advance(watermark.Mark{Stage: watermark.Synced}, at)
	return nil
}

func (w *witness) Begin(context.Context, cdc.Claim, uint64) error { return nil }
func (w *witness) Flushed(context.Context) error                  { return nil }
func (w *witness) LastClaim(context.Context) (cdc.Claim, uint64, bool, error) {
	return cdc.Claim{}, 0, false, nil
}

// Resolve answers with one name for one id, and with none for some.
func (w *witness) Resolve(_ context.Context, _ cdc.Stamp, queries []rules.Query) []rules.Answer {
	out := make([]rules.Answer, len(queries))
	for i, q := range queries {
		out[i].Shape = &cdc.Relation{Columns: []cdc.Column{{Name: "name", TypeOID: 25}}}
		if id, _ := strconv.Atoi(q.Args[0]); id%7 > 0 {
			out[i].Rows = []cdc.Tuple{{{Kind: cdc.Text, Data: fmt.Append(nil, id%5)}}}
		}
	}
	return out
}

func (w *witness) has(xid uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, has := w.came[xid]
	return has
}

// watchHistories reads all that is written from now on, streamed or not.
func watchHistories(t *testing.T, pg *harness.Postgres, streaming bool) *witness {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(historyRules), rules.Options{Sinks: []rules.SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}, {Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.Everything)},
	}})
	require.NoError(t, err)
	w := &witness{board: watermark.NewBoard(watermark.Mark{Stage: watermark.Synced}), now: make(map[string]bool), came: make(map[uint64]map[string]bool)}
	quiet := slog.New(slog.DiscardHandler)
	w.Router = router.New(router.Config{
		Rules: set, Sinks: []string{"cache", "edge"}, Publisher: w, Ledger: w, Lookups: w, Spool: spool.NewPool(t.TempDir(), 1<<30),
		Metrics: router.NewMetrics(prom.NewRegistry()), Logger: quiet,
	})
	cfg := postgres.DefaultConfig("histories")
	cfg.URL, cfg.Streaming, cfg.Heartbeat = pg.URL("postgres"), streaming, time.Hour
	cfg.Slot = fmt.Sprintf("histories_%v", streaming)
	patterns := set.Patterns()
	require.NotEmpty(t, patterns)
	reader := postgres.NewReader(cfg, postgres.Options{
		Board: w.board, Confirm: watermark.ConfirmSynced, StopGrace: 5 * time.Second, Logger: quiet,
		Watch: func() postgres.Watch { return postgres.Watch{Tables: set.Tables(), Matches: set.Matches} },
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, w) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool {
		select {
		case err := <-done:
			done <- nil
			require.NoError(t, err)
		default:
		}
		return reader.State().Phase == postgres.Streaming
	}, 30*time.Second, 10*time.Millisecond)
	return w
}

// TestHistories: what a transaction comes to that was read while it ran is what its rows
// come to that are left of it, whatever was rolled back; and what it comes to when it is
// read after its end.
func TestHistories(t *testing.T) {
	t.Parallel()
	w := histories(t, harness.PostgresConfig{Settings: map[string]string{"logical_decoding_work_mem": "64kB"}}, rounds(200, 10_000), false)
	require.Equal(t, 1, w.sessions)
	require.Greater(t, w.streamed, len(w.came)/20)
	require.Positive(t, w.aborted[0])
	require.Positive(t, w.aborted[1])
}

// TestHistoriesOfShapes: tables change their shapes meanwhile, with and without a
// rollback. Where the server loses its way in that, it is read later.
func TestHistoriesOfShapes(t *testing.T) {
	t.Parallel()
	for n := range rounds(1, 10) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			histories(t, harness.PostgresConfig{Settings: map[string]string{"logical_decoding_work_mem": "64kB"}}, rounds(100, 500), true)
		})
	}
}

func histories(t *testing.T, cfg harness.PostgresConfig, count int, shapes bool) *witness {
	const writers = 8
	pg, err := harness.StartPostgres(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	require.NoError(t, pg.Exec(t.Context(), "postgres", historySchema))
	for i := range writers {
		require.NoError(t, pg.Exec(t.Context(), "postgres", fmt.Sprintf("CREATE TABLE own_%d (id int PRIMARY KEY)", i)))
	}
	late := watchHistories(t, pg, false)
	live := watchHistories(t, pg, true)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var g errgroup.Group
	for i := range writers {
		conn, err := pgx.Connect(t.Context(), pg.URL("postgres"))
		require.NoError(t, err)
		defer conn.Close(context.Background())
		h := &historian{conn: conn, writer: i, shapes: shapes, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		g.Go(func() error {
			for n := range count / writers {
				if err := h.write(t.Context(), n*writers+i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	var last uint64
	require.NoError(t, pg.QueryRow(t.Context(), "postgres", "INSERT INTO items VALUES (-1) RETURNING pg_current_xact_id()::text::bigint", &last))
	require.Eventually(t, func() bool { return late.has(last) && live.has(last) }, 2*time.Minute, 10*time.Millisecond)

	require.Zero(t, late.streamed)
	t.Logf("%d transactions came, %d of them streamed in %d sessions; %d and %d subtransactions were rolled back after they had been streamed",
		len(live.came), live.streamed, live.sessions, live.aborted[0], live.aborted[1])
	// One that comes to nothing may not come at all.
	for _, all := range []*witness{late, live} {
		for xid := range all.came {
			want := late.came[xid]
			got := live.withoutRolledBackMessages(xid, want)
			if shapes && flushesOnly(want) && flushesOnly(got) {
				continue // a reader announced tables that changed their shape: the other has transactions of its own for that
			}
			require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)), "transaction %d", xid)
		}
	}
	sameAsJournal(t, pg, live)
	return live
}

// flushesOnly reports whether there is nothing but flushes.
func flushesOnly(values map[string]bool) bool {
	for v := range values {
		if !strings.HasSuffix(v, " flush") {
			return false
		}
	}
	return true
}

// withoutRolledBackMessages leaves out what messages came to that should not have come.
// The server does not tell which subtransaction a streamed message belongs to (up to
// version 18 at least), so one that was rolled back counts.
func (w *witness) withoutRolledBackMessages(xid uint64, want map[string]bool) map[string]bool {
	out := maps.Clone(w.came[xid])
	maps.DeleteFunc(out, func(v string, _ bool) bool { return strings.HasPrefix(v, "cache hand ") && !want[v] })
	return out
}

// sameAsJournal compares with what the database itself has kept of each transaction.
func sameAsJournal(t *testing.T, pg *harness.Postgres, w *witness) {
	t.Helper()
	conn, err := pg.Connect(t.Context(), "postgres")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), "SELECT xid::text::bigint, array_agg(DISTINCT key ORDER BY key) FROM journal GROUP BY xid")
	require.NoError(t, err)
	var xid uint64
	var keys []string
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&xid, &keys}, func() error {
		var got []string
		for v := range w.came[xid] {
			for _, rule := range []string{"cache written key ", "cache deleted key "} {
				if len(v) > len(rule) && v[:len(rule)] == rule {
					got = append(got, v[len(rule):])
				}
			}
		}
		slices.Sort(got)
		slices.Sort(keys)
		require.Equal(t, keys, got, "transaction %d", xid)
		seen++
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, seen, len(w.came)/3)
}
