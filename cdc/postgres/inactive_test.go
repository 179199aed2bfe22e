package postgres

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// TestWhatAnotherPipelineLeft: which slots count as left by another pipeline, and what the first start beside one,
// another slot, another publication and another database make of it.
func TestWhatAnotherPipelineLeft(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.cfg.Heartbeat, s.memory = time.Hour, &kept{}
	s.exec("CREATE TABLE others (id int PRIMARY KEY)")
	s.exec("SELECT pg_create_logical_replication_slot('theirs', 'test_decoding'), pg_create_logical_replication_slot('debezium', 'pgoutput')")

	inactive := func() []InactiveSlot {
		t.Helper()
		slots, err := s.cfg.InactiveSlots(t.Context(), s.conn)
		require.NoError(t, err)
		for i := range slots {
			slots[i].Retained = 0
		}
		return slots
	}
	require.Empty(t, inactive(), "slots of other programs")

	// A pipeline that setup made and that has yet to start, another for other tables, and one with names of its own.
	other := s.cfg
	for _, p := range []struct{ slot, publication, table string }{{"walpurge_new", "walpurge_new", "items"}, {"walpurge_others", "walpurge_others", "others"}, {"named", "pub", "items"}} {
		other.Slot, other.Publication = p.slot, p.publication
		steps, _, err := other.Setup(t.Context(), s.conn, Watch{Tables: []cdc.Table{{Schema: "public", Name: p.table}}})
		require.NoError(t, err)
		require.NoError(t, other.Apply(t.Context(), s.conn, steps))
	}
	require.Empty(t, inactive(), "none of them was read")
	s.exec("INSERT INTO items VALUES (0)")
	s.exec("SELECT pg_replication_slot_advance(slot_name, pg_current_wal_insert_lsn()) FROM pg_replication_slots WHERE slot_name IN ('walpurge_others', 'named')")
	require.Equal(t, []InactiveSlot{{Name: "named", Shares: true}, {Name: "walpurge_others", Shares: true}}, inactive(), "this pipeline has no publication yet")

	first := s.run(&sinkhole{}, Streaming)
	require.Equal(t, []string{"named"}, first.starts[0].Inactive, "what shares a table")
	require.NotZero(t, first.starts[0].Database)
	require.Contains(t, first.log.String(), "another pipeline left a slot")
	require.Equal(t, []InactiveSlot{{Name: "named", Shares: true}, {Name: "walpurge_others"}}, inactive())
	eventually(t, 30*time.Second, func() bool { return len(first.InactiveSlots()) == 2 }, "the heartbeat reads them")
	s.cfg.Slot, s.cfg.Publication = "named", "pub"
	require.Equal(t, []InactiveSlot{{Name: "walpurge_others"}}, inactive(), "a slot that is read is not inactive")
	s.cfg.Slot, s.cfg.Publication = "walpurge_test", "walpurge_test"
	s.exec("SELECT pg_drop_replication_slot('named')")
	first.end(t)
	eventually(t, 30*time.Second, func() bool { return s.walsender() == 0 }, "the slot is free")

	again := s.run(&sinkhole{}, Streaming)
	require.Empty(t, again.starts[0].Inactive)
	again.end(t)
	eventually(t, 30*time.Second, func() bool { return s.walsender() == 0 }, "the slot is free")

	// Another publication that is there already: the slot cannot see it for what lies before it. The
	// slot is moved, and that is a gap.
	s.exec("INSERT INTO items VALUES (1)")
	s.exec("CREATE PUBLICATION renamed FOR TABLE items WITH (publish_via_partition_root = true)")
	s.cfg.Publication = "renamed"
	stopping := NewReader(s.cfg, Options{Board: watermark.NewBoard(), Logger: slog.New(slog.DiscardHandler), Watch: s.watch, Memory: s.memory})
	require.ErrorContains(t, stopping.Run(t.Context(), &sinkhole{}), `slot "walpurge_test" lies before publication "renamed" was created`)
	s.bridge = true
	renamed := s.run(&sinkhole{}, Streaming)
	require.Equal(t, cdc.GapPublicationChanged, renamed.starts[0].Leapt)
	require.Contains(t, renamed.log.String(), "cannot see it there")
	s.exec("INSERT INTO items VALUES (2)")
	eventually(t, 30*time.Second, func() bool { renamed.mu.Lock(); defer renamed.mu.Unlock(); return renamed.ids["2"] == 1 }, "it streams")
	require.Equal(t, 1, renamed.sessions())
	renamed.end(t)
	eventually(t, 30*time.Second, func() bool { return s.walsender() == 0 }, "the slot is free")

	// The same where the memory is lost as well: before PostgreSQL 18 the server fails there; from 18 on the empty
	// stream is what flushes.
	s.exec("INSERT INTO items VALUES (3)")
	s.exec("ALTER PUBLICATION renamed RENAME TO again")
	s.memory, s.cfg.Publication = &kept{}, "again"
	lost := s.run(&sinkhole{}, Streaming)
	if s.major() < 18 {
		eventually(t, 30*time.Second, func() bool { return lost.sessions() == 2 }, "another session")
		lost.mu.Lock()
		require.Equal(t, cdc.GapPublicationChanged, lost.starts[1].Leapt)
		lost.mu.Unlock()
	}
	s.exec("INSERT INTO items VALUES (4)")
	eventually(t, 30*time.Second, func() bool { lost.mu.Lock(); defer lost.mu.Unlock(); return lost.ids["4"] == 1 }, "it streams")
}
