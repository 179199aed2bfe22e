package integration

import (
	"encoding/hex"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// sameAsPeer decodes the recorded log with our decoder and with pglogrepl's.
func sameAsPeer(t *testing.T, conn *pgconn.PgConn) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'peer', 'x'), pg_logical_emit_message(false, 'peer', '');
		TRUNCATE peer_full, peer_key RESTART IDENTITY`).ReadAll()
	require.NoError(t, err)
	res, err := conn.Exec(t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes('recorded', NULL, NULL, 'proto_version', '1', 'publication_names', 'walpurge_peer', 'messages', 'true')`).ReadAll()
	require.NoError(t, err)
	rows := res[0].Rows
	ours := pgoutput.NewDecoder()
	seen := make(map[pgoutput.Type]int)
	for _, row := range rows {
		raw, err := hex.DecodeString(string(row[0][2:])) // \x...
		require.NoError(t, err)
		typ, err := ours.Decode(raw)
		require.NoError(t, err)
		theirs, err := pglogrepl.Parse(raw)
		require.NoError(t, err)
		seen[typ]++
		sameMessage(t, ours, typ, theirs)
	}
	for _, typ := range []pgoutput.Type{pgoutput.BeginType, pgoutput.CommitType, pgoutput.RelationType, pgoutput.InsertType, pgoutput.UpdateType,
		pgoutput.DeleteType, pgoutput.TruncateType, pgoutput.LogicalType, pgoutput.TypeType} {
		require.Positive(t, seen[typ], typ.String())
	}
	require.GreaterOrEqual(t, seen[pgoutput.InsertType], 80)
}

func sameMessage(t *testing.T, d *pgoutput.Decoder, typ pgoutput.Type, theirs pglogrepl.Message) {
	t.Helper()
	require.Equal(t, byte(theirs.Type()), byte(typ))
	switch m := theirs.(type) {
	case *pglogrepl.BeginMessage:
		require.Equal(t, uint64(m.FinalLSN), uint64(d.Begin.Commit))
		require.True(t, m.CommitTime.Equal(d.Begin.Time))
		require.Equal(t, m.Xid, d.Begin.XID)
	case *pglogrepl.CommitMessage:
		require.Equal(t, uint64(m.CommitLSN), uint64(d.Commit.Commit))
		require.Equal(t, uint64(m.TransactionEndLSN), uint64(d.Commit.End))
		require.True(t, m.CommitTime.Equal(d.Commit.Time))
	case *pglogrepl.RelationMessage:
		rel := d.Relation
		require.Equal(t, m.RelationID, rel.OID)
		require.Equal(t, m.Namespace+"."+m.RelationName, rel.String())
		require.Equal(t, byte(m.ReplicaIdentity), byte(rel.Identity))
		require.Len(t, rel.Columns, len(m.Columns))
		for i, c := range m.Columns {
			require.Equal(t, cdc.Column{Name: c.Name, TypeOID: c.DataType, TypeMod: c.TypeModifier, Key: c.Flags&1 != 0}, rel.Columns[i])
		}
	case *pglogrepl.TypeMessage:
		require.Equal(t, pgoutput.DataType{OID: m.DataType, Schema: m.Namespace, Name: m.Name}, d.DataType)
	case *pglogrepl.InsertMessage:
		require.Equal(t, cdc.Insert, d.Change.Op)
		require.Nil(t, d.Change.Old)
		sameTuple(t, m.Tuple, d.Change.New, d.Change.Rel, false)
	case *pglogrepl.UpdateMessage:
		require.Equal(t, cdc.Update, d.Change.Op)
		require.Equal(t, m.OldTuple != nil, d.Change.Old != nil)
		if m.OldTuple != nil {
			sameTuple(t, m.OldTuple, d.Change.Old, d.Change.Rel, m.OldTupleType == pglogrepl.UpdateMessageTupleTypeKey)
		}
		sameTuple(t, m.NewTuple, d.Change.New, d.Change.Rel, false)
	case *pglogrepl.DeleteMessage:
		require.Equal(t, cdc.Delete, d.Change.Op)
		require.Nil(t, d.Change.New)
		sameTuple(t, m.OldTuple, d.Change.Old, d.Change.Rel, m.OldTupleType == pglogrepl.DeleteMessageTupleTypeKey)
	case *pglogrepl.TruncateMessage:
		require.Len(t, d.Truncate.Relations, len(m.RelationIDs))
		for i, oid := range m.RelationIDs {
			require.Equal(t, oid, d.Truncate.Relations[i].OID)
		}
		require.Equal(t, m.Option&pglogrepl.TruncateOptionRestartIdentity != 0, d.Truncate.RestartIdentity)
	case *pglogrepl.LogicalDecodingMessage:
		require.Equal(t, pgoutput.Logical{Transactional: m.Transactional, LSN: cdc.LSN(m.LSN), Prefix: m.Prefix, Content: d.Logical.Content}, d.Logical)
		require.Equal(t, string(m.Content), string(d.Logical.Content))
	default:
		require.Failf(t, "unexpected message", "%T", theirs)
	}
}

// sameTuple compares a row. A key image has nothing to say of other columns.
func sameTuple(t *testing.T, theirs *pglogrepl.TupleData, ours cdc.Tuple, rel *cdc.Relation, key bool) {
	t.Helper()
	require.Len(t, ours, len(theirs.Columns))
	for i, c := range theirs.Columns {
		want := map[uint8]cdc.ValueKind{'n': cdc.Null, 'u': cdc.Unchanged, 't': cdc.Text}[c.DataType]
		if key && !rel.Columns[i].Key {
			require.Equal(t, uint8('n'), c.DataType)
			want = cdc.Absent
		}
		require.Equal(t, want, ours[i].Kind, rel.Columns[i].Name)
		require.True(t, string(c.Data) == string(ours[i].Data), rel.Columns[i].Name)
	}
}
