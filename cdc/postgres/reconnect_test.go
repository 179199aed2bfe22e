package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestMinorVersions(t *testing.T) {
	for version, want := range map[int]struct {
		unpublished bool
		note        string
	}{
		130020: {true, ""}, // refused as too old
		140000: {true, "upgrade to 14.19"}, 140017: {true, "upgrade to 14.19"}, 140018: {false, "run out of memory"}, 140019: {false, ""},
		150012: {true, "upgrade to 15.14"}, 150013: {false, "upgrade to 15.14"}, 150014: {false, ""}, 150020: {false, ""},
		160008: {true, "upgrade to 16.10"}, 160009: {false, "upgrade to 16.10"}, 160010: {false, ""},
		170000: {true, "PostgreSQL 17.0 can go on not sending a table"}, 170004: {true, "upgrade to 17.6"}, 170005: {false, "PostgreSQL 17.5 can run out of memory"}, 170006: {false, ""},
		180000: {false, ""}, 180004: {false, ""}, 190000: {false, ""},
	} {
		require.Equal(t, want.unpublished, staysUnpublished(version), version)
		if want.note == "" {
			require.Empty(t, minorNotes(version), version)
			continue
		}
		require.Contains(t, strings.Join(minorNotes(version), "\n"), want.note, version)
	}
	backlog := func(version int) bool {
		return strings.Contains(strings.Join(minorNotes(version), "\n"), "a backlog is read by the stream alone")
	}
	for _, version := range []int{140014, 150009, 160005, 170001} {
		require.True(t, backlog(version), version)
		require.False(t, backlog(version+1), version)
	}
}

// TestReconnectAfterATableWasPublished: on older minor versions the session is replaced once those have
// ended that wrote to the table before it was published, and its gap is announced again; also where
// the daemon was restarted in between. This server has the fix, so the test decides otherwise.
func TestReconnectAfterATableWasPublished(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.staysUnpublished = func(int) bool { return true }
	s.memory = &kept{}
	s.watches = Watch{Tables: public("items", "more")}
	s.exec("CREATE TABLE more (id int PRIMARY KEY, note text)")
	writer, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	defer writer.Close(context.Background())
	gaps := func(r *running) (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, gap := range r.gaps {
			for _, table := range gap.Tables {
				if table.Name == "more" {
					n++
				}
			}
		}
		return n
	}
	// beats waits until three heartbeats have compared the tables.
	beats := func(r *running) {
		t.Helper()
		for range 3 {
			before, _ := r.Slot()
			eventually(t, 30*time.Second, func() bool { now, _ := r.Slot(); return now.Heartbeat.After(before.Heartbeat) }, "a heartbeat is back")
		}
	}
	wait := func(r *running) {
		t.Helper()
		_, err := writer.Exec(t.Context(), "COMMIT")
		require.NoError(t, err)
		eventually(t, 30*time.Second, func() bool { return gaps(r) == 1 && len(r.reconnect.now().tables) == 0 }, "the gap is announced again")
	}

	r := s.run(&sinkhole{}, Streaming)
	beats(r)
	_, err = writer.Exec(t.Context(), "BEGIN; INSERT INTO more VALUES (1)")
	require.NoError(t, err)
	s.exec("ALTER PUBLICATION walpurge_test DROP TABLE more")
	eventually(t, 30*time.Second, func() bool { return gaps(r) > 0 }, "the table is published again")
	beats(r)
	require.Equal(t, 1, r.sessions(), "the writer has not ended")
	require.Equal(t, []cdc.Table{{Schema: "public", Name: "more"}}, r.reconnect.now().tables)
	r.end(t)

	r = s.run(&sinkhole{}, Streaming)
	beats(r)
	require.Equal(t, 1, r.sessions())
	require.Zero(t, gaps(r))
	wait(r)
	require.Equal(t, 2, r.sessions(), "once")
	s.exec("INSERT INTO more VALUES (0)")
	eventually(t, 30*time.Second, func() bool { return r.has(1) }, "changes of the table come")
	beats(r)
	require.Equal(t, 2, r.sessions())
	require.Equal(t, 1, gaps(r))
	require.Equal(t, 0, strings.Count(r.log.String(), heartbeatLost.On))
}
