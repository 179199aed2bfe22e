package integration

import (
	"encoding/hex"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/integration/harness"
)

// TestStreamedAsPeer decodes a recorded log with blocks of running transactions with our
// decoder and with pglogrepl's: two that alternate, savepoints rolled back, and one that
// ends in nothing.
func TestStreamedAsPeer(t *testing.T) {
	t.Parallel()
	pg, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{Settings: map[string]string{"logical_decoding_work_mem": "64kB"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	require.NoError(t, pg.Exec(t.Context(), "postgres", `CREATE TABLE rows (id int PRIMARY KEY, body text); CREATE TABLE scratch (id int PRIMARY KEY);
		CREATE PUBLICATION streamed FOR TABLE rows, scratch`))
	require.NoError(t, pg.Exec(t.Context(), "postgres", "SELECT pg_create_logical_replication_slot('streamed', 'pgoutput')"))
	one, other := pinned(t, pg.URL("postgres")), pinned(t, pg.URL("postgres"))
	const some = "INSERT INTO rows SELECT nextval('ids'), repeat('x', 50) FROM generate_series(1, 2000);"
	for _, step := range []struct {
		first bool
		sql   string
	}{
		{true, "CREATE SEQUENCE ids"},
		{true, "BEGIN"}, {false, "BEGIN"},
		{true, some}, {false, some},
		{true, "SAVEPOINT a;" + some + "UPDATE rows SET body = 'y' WHERE id % 2 = 0; ROLLBACK TO a"},
		{false, "SELECT pg_logical_emit_message(true, 'peer', 'in a block'); DELETE FROM rows WHERE id % 3 = 0;" + some},
		{true, "SAVEPOINT b; TRUNCATE scratch; DELETE FROM rows WHERE id % 3 = 0; SELECT pg_logical_emit_message(true, 'peer', 'in a block');" + some}, // PostgreSQL 18 sends nothing of a transaction that it knows to be rolled back
		{false, "ROLLBACK"}, {true, "COMMIT"},
		{true, "INSERT INTO rows VALUES (-1, 'small')"},
	} {
		conn := other
		if step.first {
			conn = one
		}
		_, err := conn.Exec(t.Context(), step.sql).ReadAll()
		require.NoError(t, err, step.sql)
	}

	res, err := one.Exec(t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes('streamed', NULL, NULL,
		'proto_version', '2', 'streaming', 'on', 'publication_names', 'streamed', 'messages', 'true')`).ReadAll()
	require.NoError(t, err)
	ours, inBlock := pgoutput.NewDecoder(), false
	seen := make(map[pgoutput.Type]int)
	for _, row := range res[0].Rows {
		raw, err := hex.DecodeString(string(row[0][2:])) // \x...
		require.NoError(t, err)
		typ, err := ours.Decode(raw)
		require.NoError(t, err)
		theirs, err := pglogrepl.ParseV2(raw, inBlock)
		require.NoError(t, err)
		seen[typ]++
		switch typ {
		case pgoutput.StreamStartType:
			inBlock = true
		case pgoutput.StreamStopType:
			inBlock = false
		}
		sameStreamed(t, ours, typ, theirs)
	}
	for _, typ := range []pgoutput.Type{pgoutput.StreamStartType, pgoutput.StreamStopType, pgoutput.StreamCommitType, pgoutput.StreamAbortType, pgoutput.BeginType,
		pgoutput.RelationType, pgoutput.InsertType, pgoutput.UpdateType, pgoutput.DeleteType, pgoutput.TruncateType, pgoutput.LogicalType} {
		require.Positive(t, seen[typ], typ.String())
	}
	require.Greater(t, seen[pgoutput.StreamStartType], 5)
}

// sameStreamed compares one message, which the peer wraps where version 2 adds to it.
func sameStreamed(t *testing.T, d *pgoutput.Decoder, typ pgoutput.Type, theirs pglogrepl.Message) {
	t.Helper()
	xid := func(want uint32, plain pglogrepl.Message) {
		if want != 0 { // outside of a block the peer leaves it out
			require.Equal(t, want, d.XID)
		}
		sameMessage(t, d, typ, plain)
	}
	switch m := theirs.(type) {
	case *pglogrepl.StreamStartMessageV2:
		require.Equal(t, pgoutput.StreamStart{XID: m.Xid, First: m.FirstSegment == 1}, d.StreamStart)
	case *pglogrepl.StreamStopMessageV2:
		require.Equal(t, pgoutput.StreamStopType, typ)
	case *pglogrepl.StreamCommitMessageV2:
		require.Equal(t, m.Xid, d.Commit.XID)
		require.Equal(t, uint64(m.CommitLSN), uint64(d.Commit.Commit))
		require.Equal(t, uint64(m.TransactionEndLSN), uint64(d.Commit.End))
		require.True(t, m.CommitTime.Equal(d.Commit.Time))
	case *pglogrepl.StreamAbortMessageV2:
		require.Equal(t, pgoutput.StreamAbort{XID: m.Xid, Sub: m.SubXid}, d.StreamAbort)
	case *pglogrepl.RelationMessageV2:
		xid(m.Xid, &m.RelationMessage)
	case *pglogrepl.TypeMessageV2:
		xid(m.Xid, &m.TypeMessage)
	case *pglogrepl.InsertMessageV2:
		xid(m.Xid, &m.InsertMessage)
	case *pglogrepl.UpdateMessageV2:
		xid(m.Xid, &m.UpdateMessage)
	case *pglogrepl.DeleteMessageV2:
		xid(m.Xid, &m.DeleteMessage)
	case *pglogrepl.TruncateMessageV2:
		xid(m.Xid, &m.TruncateMessage)
	case *pglogrepl.LogicalDecodingMessageV2:
		xid(m.Xid, &m.LogicalDecodingMessage)
	default:
		sameMessage(t, d, typ, theirs)
	}
}
