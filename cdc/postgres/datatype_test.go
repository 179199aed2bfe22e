package postgres

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func builtin(oid uint32) cdc.DataType { return cdc.BuiltinType(oid) }

// TestDataTypes: the table of built-in types is the server's, and domains, arrays and enums are
// taken apart in the same way by the catalog and in the stream.
func TestDataTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	rows, err := s.conn.Query(t.Context(), `SELECT t.oid, coalesce(a.oid, 0)::oid, t.typname::text, coalesce(a.typdelim::text, '') FROM pg_type t
		LEFT JOIN pg_type a ON a.oid = t.typarray AND a.oid < 10000
		WHERE t.oid < 10000 AND (t.typtype IN ('b', 'r', 'm') AND t.typsubscript <> 'array_subscript_handler'::regproc OR t.typname IN ('int2vector', 'oidvector'))`)
	require.NoError(t, err)
	var oid, array uint32
	var name, delimiter string
	_, err = pgx.ForEachRow(rows, []any{&oid, &array, &name, &delimiter}, func() error {
		require.Equal(t, name, cdc.BuiltinName(oid), "%d", oid)
		require.Equal(t, oid, cdc.BuiltinOID(name))
		require.Nil(t, builtin(oid).Elem)
		if array != 0 {
			require.Equal(t, &cdc.DataType{OID: oid}, builtin(array).Elem, name)
			require.Equal(t, delimiter, string(builtin(array).Delimiter), name)
			require.Equal(t, array, cdc.BuiltinOID("_"+name))
		}
		return nil
	})
	require.NoError(t, err)

	s.exec(`CREATE SCHEMA other; CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN small AS positive CHECK (VALUE < 100);
CREATE DOMAIN flag AS bool; CREATE DOMAIN money2 AS numeric(12,2); CREATE DOMAIN tags AS text[]; CREATE DOMAIN feeling AS mood; CREATE DOMAIN feelings AS mood[];
CREATE TYPE pair AS (a int, b int); CREATE TYPE _odd AS ENUM ('{a,b}'); CREATE DOMAIN other.positive AS bigint; CREATE DOMAIN boxes AS box[];
CREATE TABLE typed (id int PRIMARY KEY, note text, a small, b flag, c money2, d tags, e feeling, f feelings, g positive[], h mood[], i citext, j citext[], k pair, l pair[],
  m _odd, n _odd[], o other.positive[], p money2[], q tags[], r boxes, s box[], t information_schema.cardinal_number, u int2vector, v int4multirange, w varchar(3)[])`)
	elem := func(elem cdc.DataType) cdc.DataType { return cdc.DataType{Elem: &elem, Delimiter: ','} }
	mood, citext := cdc.DataType{Name: "mood", Enum: true}, cdc.DataType{Name: "citext"}
	named := func(name string, t cdc.DataType) cdc.DataType { t.Name = name; return t }
	want := map[string]struct {
		of   cdc.DataType
		base string
	}{
		"id": {builtin(23), ""}, "note": {builtin(25), ""}, "a": {builtin(23), "integer"}, "b": {builtin(16), "boolean"}, "c": {builtin(1700), "numeric(12,2)"}, "d": {builtin(1009), "text[]"},
		"e": {mood, "mood"}, "f": {named("_mood", elem(mood)), "mood[]"}, "g": {builtin(1007), "integer[]"}, "h": {named("_mood", elem(mood)), ""}, "i": {citext, ""},
		"j": {named("_citext", elem(citext)), ""}, "k": {cdc.DataType{Name: "pair"}, ""}, "l": {named("_pair", elem(cdc.DataType{Name: "pair"})), ""}, "m": {cdc.DataType{Name: "_odd", Enum: true}, ""},
		"n": {named("__odd", elem(cdc.DataType{Name: "_odd", Enum: true})), ""}, "o": {builtin(1016), "bigint[]"}, "p": {builtin(1231), "numeric(12,2)[]"},
		"q": {named("_tags", elem(builtin(1009))), "text[][]"}, "r": {builtin(1020), "box[]"}, "s": {builtin(1020), ""}, "t": {builtin(23), "integer"}, "u": {builtin(22), ""}, "v": {builtin(4451), ""}, "w": {builtin(1015), ""},
	}
	// OIDs of the user's own differ from run to run.
	var stable func(t cdc.DataType) cdc.DataType
	stable = func(t cdc.DataType) cdc.DataType {
		if t.OID >= cdc.FirstUserOID {
			t.OID = 0
		}
		if t.Elem != nil {
			elem := stable(*t.Elem)
			t.Elem = &elem
		}
		return t
	}
	table := cdc.Table{Schema: "public", Name: "typed"}
	infos, err := Inspect(t.Context(), s.conn, "", []cdc.Table{table})
	require.NoError(t, err)
	for _, c := range infos[table].Columns {
		require.Equal(t, want[c.Name].of, stable(c.DataType), c.Name)
		require.Equal(t, want[c.Name].base, c.Base, c.Name)
	}

	s.watches.Tables = []cdc.Table{table}
	var mu sync.Mutex
	seen := map[string]cdc.DataType{}
	shapes := 0
	r := s.run(&sinkhole{hold: func(c *cdc.Change) {
		mu.Lock()
		defer mu.Unlock()
		shapes++
		for i := range c.Rel.Columns {
			seen[c.Rel.Columns[i].Name] = c.Rel.Columns[i].DataType()
		}
	}}, Streaming)
	s.exec("INSERT INTO typed (id, note) VALUES (0, 'x')")
	eventually(t, 30*time.Second, func() bool { return r.has(1) }, "the row is read")
	check := func() {
		mu.Lock()
		defer mu.Unlock()
		for name, want := range want {
			require.Equal(t, want.of, stable(seen[name]), name)
		}
	}
	check()

	// A type that is made while the session lasts, and types that are gone before they are met.
	s.exec("CREATE TYPE late AS ENUM ('x'); ALTER TABLE typed ADD x late[]; INSERT INTO typed (id, note) VALUES (1, 'x')")
	eventually(t, 30*time.Second, func() bool { return r.has(2) }, "the row is read")
	check()
	mu.Lock()
	require.Equal(t, named("_late", elem(cdc.DataType{Name: "late", Enum: true})), stable(seen["x"]))
	mu.Unlock()
	r.end(t)
	s.exec(`INSERT INTO typed (id, note) VALUES (2, 'x'); ALTER TABLE typed DROP a, DROP f, DROP h, DROP d, DROP q, DROP e; DROP DOMAIN small, tags, feelings, feeling; DROP TYPE mood`)
	again := s.run(&sinkhole{hold: r.hold}, Streaming)
	eventually(t, 30*time.Second, func() bool { again.mu.Lock(); defer again.mu.Unlock(); return again.ids["2"] == 1 }, "the row is read")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, builtin(23), seen["a"], "the Type message says what a domain is made from")
	require.Equal(t, builtin(1009), seen["d"])
	for _, gone := range []string{"e", "f", "h", "q"} {
		of := seen[gone]
		require.True(t, of.Unknown(), "%s %+v", gone, of)
	}
	require.Equal(t, 3, shapes)
}

func TestCollations(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(`CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);
CREATE TABLE named (id int PRIMARY KEY, a text COLLATE "C", b text COLLATE "en-x-icu", c text COLLATE loose, d text[] COLLATE "POSIX", e name)`)
	got, err := Collations(t.Context(), s.conn, cdc.Table{Schema: "public", Name: "named"})
	require.NoError(t, err)
	require.Equal(t, []Collation{{"b", "en-x-icu", false}, {"c", "loose", true}}, got)
}
