package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

var items = cdc.Table{Schema: "public", Name: "items"}

func tenant(name string) cdc.Table { return cdc.Table{Schema: "tenant_" + name, Name: "orders"} }

// tenants watches items and the orders of every tenant.
func (s *server) tenants() {
	s.watches = Watch{Tables: []cdc.Table{items}, Matches: func(t cdc.Table) bool {
		return strings.HasPrefix(t.Schema, "tenant_") && t.Name == "orders"
	}}
}

func (s *server) settle(name, shape string) {
	s.exec("CREATE SCHEMA " + name)
	s.exec("CREATE TABLE " + name + ".orders (id int " + shape + ", note text)")
}

// gap returns the tables of the nth gap, waiting for it.
func (h *sinkhole) gap(t *testing.T, n int) (cdc.TableGap, uint64) {
	t.Helper()
	eventually(t, 20*time.Second, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.gaps) > n }, fmt.Sprintf("gap %d is told", n))
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gaps[n], h.gapXIDs[n]
}

// TestTablesComeAndGo does to a publication what others do while the reader runs.
func TestTablesComeAndGo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.tenants()
	s.settle("tenant_a", "PRIMARY KEY")
	s.settle("other", "PRIMARY KEY")
	r := s.run(&sinkhole{}, Streaming)
	ready := func() {
		t.Helper()
		eventually(t, 20*time.Second, func() bool { r.watching.mu.Lock(); defer r.watching.mu.Unlock(); return r.watching.known != nil }, "the publication was looked at")
	}
	ready()

	s.settle("tenant_b", "PRIMARY KEY")
	s.exec("INSERT INTO tenant_b.orders VALUES (900)")
	gap, _ := r.gap(t, 0)
	require.Equal(t, cdc.TableGap{Tables: []cdc.Table{tenant("b")}}, gap, "a new tenant's table is published, and nothing else")
	s.exec("INSERT INTO tenant_b.orders VALUES (0)")
	eventually(t, 20*time.Second, func() bool { return r.has(1) }, "its changes come from then on")

	// A writer that began before the table was published: what it has written is
	// never sent, so readers must be told of it once it has ended.
	other, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	defer other.Close(context.Background())
	var tx pgx.Tx
	var writer, altered uint64
	written := 900
	for {
		r.mu.Lock()
		n := len(r.gaps)
		r.mu.Unlock()
		s.exec("ALTER PUBLICATION walpurge_test DROP TABLE items")
		tx, err = other.Begin(t.Context())
		require.NoError(t, err)
		written++
		require.NoError(t, tx.QueryRow(t.Context(), "INSERT INTO items VALUES ($1) RETURNING pg_current_xact_id()::text::bigint", written).Scan(&writer))
		gap, altered = r.gap(t, n)
		require.Equal(t, []cdc.Table{items}, gap.Tables, "a table that was taken out comes back")
		if gap.Open != nil {
			break
		}
		// It came back before the writer began.
		require.NoError(t, tx.Rollback(t.Context()))
	}
	require.Equal(t, []uint64{writer}, gap.Open)
	require.NotEqual(t, writer, altered)
	require.NoError(t, tx.Commit(t.Context()))
	s.exec("INSERT INTO items VALUES (1)")
	eventually(t, 20*time.Second, func() bool { return r.has(2) }, "changes are seen again")
	r.mu.Lock()
	told, sent := len(r.gaps), r.ids[fmt.Sprint(written)]
	r.mu.Unlock()
	require.Zero(t, sent, "the server sends nothing of what was written before")

	s.exec("DROP TABLE tenant_b.orders; CREATE TABLE tenant_b.orders (id int PRIMARY KEY, note text)")
	gap, _ = r.gap(t, told)
	require.Equal(t, []cdc.Table{tenant("b")}, gap.Tables, "a table made anew is another one")
	eventually(t, 20*time.Second, func() bool {
		s.exec("INSERT INTO tenant_b.orders VALUES (2) ON CONFLICT (id) DO UPDATE SET note = 'x'")
		return r.has(3)
	}, "its changes come")
	r.mu.Lock()
	told = len(r.gaps)
	r.mu.Unlock()

	s.exec("DROP SCHEMA tenant_a CASCADE")
	gap, _ = r.gap(t, told)
	require.Equal(t, []cdc.Table{tenant("a")}, gap.Tables, "the rows of a table that is dropped are gone")

	s.exec("ALTER PUBLICATION walpurge_test SET (publish = 'insert')")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 1 }, "a publication of inserts only is a problem")
	require.Contains(t, r.problems()[0], "does not publish every operation; fix: ALTER PUBLICATION")
	gap, _ = r.gap(t, told+1)
	require.Equal(t, []cdc.Table{items, tenant("b")}, gap.Tables)
	s.exec("ALTER PUBLICATION walpurge_test SET (publish = 'insert, update, delete, truncate')")
	gap, _ = r.gap(t, told+2)
	require.Equal(t, []cdc.Table{items, tenant("b")}, gap.Tables, "what was changed meanwhile was not sent")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 0 }, "and that is over")
	require.Contains(t, r.log.String(), "a problem of the publication is solved")

	// Anybody may write into the log; who says such a thing is not believed.
	s.exec(`SELECT pg_logical_emit_message(true, 'walpurge.tables', '{"publication": "walpurge_test", "tables": [{"Schema": "public", "Name": "items"}], "nonce": "guess"}')`)
	s.exec("INSERT INTO items VALUES (3)")
	eventually(t, 20*time.Second, func() bool { return r.has(4) }, "the stream goes on")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Len(t, r.gaps, told+3)
}

// TestTablesThatStayOut: what would disturb the application is never added.
func TestTablesThatStayOut(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.tenants()
	s.settle("tenant_bare", "")
	r := s.run(&sinkhole{}, Streaming)
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 1 }, "a table without a key is a problem")
	require.Contains(t, r.problems()[0], "no replica identity that can be used")
	s.exec("UPDATE tenant_bare.orders SET note = 'a'")
	s.exec("CREATE SCHEMA tenant_part; CREATE TABLE tenant_part.orders (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE UNLOGGED TABLE tenant_bare.x (id int)")
	gap, _ := r.gap(t, 0)
	require.Equal(t, []cdc.Table{tenant("part")}, gap.Tables)
	s.exec("ALTER TABLE tenant_bare.orders ADD PRIMARY KEY (id)")
	gap, _ = r.gap(t, 1)
	require.Equal(t, []cdc.Table{tenant("bare")}, gap.Tables, "mended, it enters")
	s.exec("ALTER TABLE items DROP CONSTRAINT items_pkey")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 1 }, "a published table that lost its key is a problem")

	// Nothing was seen of these, and readers may hold what they contained.
	s.settle("tenant_short", "")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 2 }, "another table without a key is a problem")
	s.exec("DROP TABLE tenant_short.orders")
	gap, _ = r.gap(t, 2)
	require.Equal(t, []cdc.Table{tenant("short")}, gap.Tables, "a table is gone that was never published")

	// A VACUUM of a table must keep no other out.
	other, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	defer other.Close(context.Background())
	s.exec("BEGIN")
	s.settle("tenant_busy", "PRIMARY KEY")
	s.settle("tenant_free", "PRIMARY KEY")
	s.exec("COMMIT")
	_, err = other.Exec(t.Context(), "BEGIN; LOCK TABLE tenant_busy.orders IN SHARE UPDATE EXCLUSIVE MODE")
	require.NoError(t, err)
	names := map[cdc.Table]bool{}
	for n := 3; !names[tenant("free")]; n++ {
		gap, _ = r.gap(t, n)
		for _, t := range gap.Tables {
			names[t] = true
		}
	}
	_, err = other.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	eventually(t, 20*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return strings.Contains(fmt.Sprint(r.gaps), "tenant_busy")
	}, "and it follows")

	// One that was taken out, and that a lock keeps out, is dropped before it could be put back.
	_, err = other.Exec(t.Context(), "BEGIN; LOCK TABLE tenant_free.orders IN SHARE UPDATE EXCLUSIVE MODE; ALTER PUBLICATION walpurge_test DROP TABLE tenant_free.orders; COMMIT; BEGIN; LOCK TABLE tenant_free.orders IN SHARE UPDATE EXCLUSIVE MODE")
	require.NoError(t, err)
	eventually(t, 20*time.Second, func() bool { return strings.Contains(strings.Join(r.problems(), " "), "tenant_free") }, "a table that cannot be put back is a problem")
	r.mu.Lock()
	told := len(r.gaps)
	r.mu.Unlock()
	_, err = other.Exec(t.Context(), "DROP TABLE tenant_free.orders; COMMIT")
	require.NoError(t, err)
	gap, _ = r.gap(t, told)
	require.Equal(t, []cdc.Table{tenant("free")}, gap.Tables)
}

// TestUnmanaged only tells, and believes who runs what it says.
func TestUnmanaged(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.tenants()
	s.cfg.Manage = false
	s.exec("CREATE PUBLICATION walpurge_test FOR TABLE items WITH (publish_via_partition_root = true)")
	s.exec("SELECT pg_create_logical_replication_slot('walpurge_test', 'pgoutput')")
	r := s.run(&sinkhole{}, Streaming)
	s.settle("tenant_a", "PRIMARY KEY")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 1 }, "a table that is not published is a problem")
	_, script, found := strings.Cut(r.problems()[0], "fix: ")
	require.True(t, found)
	s.exec(script)
	gap, _ := r.gap(t, 0)
	require.Equal(t, []cdc.Table{tenant("a")}, gap.Tables)
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 0 }, "and that is over")

	s.exec("ALTER PUBLICATION walpurge_test DROP TABLE items")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 1 }, "so is one that was taken out")
	s.exec("ALTER PUBLICATION walpurge_test ADD TABLE items")
	for n := 1; ; n++ {
		if gap, _ = r.gap(t, n); gap.Tables[0] == items {
			break
		}
	}
}

// TestPublicationDropped: no slot ever sees a publication that was made after it,
// so there must be another slot, which the handler takes for a gap.
func TestPublicationDropped(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.run(&sinkhole{}, Streaming)
	require.True(t, r.starts[0].SlotCreated)
	s.exec("DROP PUBLICATION walpurge_test")
	eventually(t, 30*time.Second, func() bool { return r.sessions() > 1 && r.State().Phase == Streaming }, "it streams again")
	r.mu.Lock()
	require.True(t, r.starts[len(r.starts)-1].SlotCreated)
	r.mu.Unlock()
	s.exec("INSERT INTO items VALUES (0)")
	eventually(t, 20*time.Second, func() bool { return r.has(1) }, "changes come")
}
