package postgres

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/shape"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// shapeCase does something to a table t, whose partitions are t1 and t2, or to a table p with a
// child.
type shapeCase struct {
	before, change string
	want           []cdc.TableCause
	// since is the first major version that has it, 0 for all.
	since int
}

const (
	tree = `CREATE TABLE t (id int, day int, note text, price numeric(10,2), mood mood, sort sort DEFAULT 'a', at place, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);
		CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (20) TO (40) PARTITION BY RANGE (day); CREATE TABLE t31 PARTITION OF t3 FOR VALUES FROM (20) TO (30);
		INSERT INTO t VALUES (1, 1, 'a'), (2, 11, 'b'), (3, 21, 'c');`
	plain = `CREATE TABLE t (id int PRIMARY KEY, day int, note text, price numeric(10,2), mood mood, sort sort DEFAULT 'a', at place, moods mood[]); INSERT INTO t VALUES (1, 1, 'a');`
	child = `CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE c (card text) INHERITS (t); INSERT INTO c VALUES (7, 'x', 'y');`
)

func because(causes ...cdc.TableCause) []cdc.TableCause { return causes }

var shapeCases = map[string]shapeCase{
	// Rows that come and go with partitions.
	"truncate a partition":              {tree, "TRUNCATE t1", because(cdc.LeafRewritten), 0},
	"truncate only a partition":         {tree, "TRUNCATE ONLY t1", because(cdc.LeafRewritten), 0},
	"truncate a partitioned partition":  {tree, "TRUNCATE t3", because(cdc.LeafRewritten), 0},
	"truncate and fill":                 {tree, "TRUNCATE t1; INSERT INTO t VALUES (1, 1, 'z')", because(cdc.LeafRewritten), 0},
	"truncate by cascade":               {tree + "CREATE TABLE owner (id int PRIMARY KEY); ALTER TABLE t1 ADD CONSTRAINT o FOREIGN KEY (id) REFERENCES owner NOT VALID;", "TRUNCATE owner CASCADE", because(cdc.LeafRewritten), 0},
	"drop a partition":                  {tree, "DROP TABLE t1", because(cdc.LeafGone), 0},
	"drop a partitioned partition":      {tree, "DROP TABLE t3", because(cdc.LeafGone), 0},
	"detach":                            {tree, "ALTER TABLE t DETACH PARTITION t1", because(cdc.LeafGone), 0},
	"detach concurrently":               {tree, "ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY", because(cdc.LeafGone), 0},
	"detach a tree":                     {tree, "ALTER TABLE t DETACH PARTITION t3", because(cdc.LeafGone), 0},
	"detach and attach":                 {tree, "ALTER TABLE t DETACH PARTITION t1; UPDATE t1 SET note = 'x'; ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)", because(cdc.LeafReattached), 0},
	"detach concurrently and attach":    {tree, "ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY; ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)", because(cdc.LeafReattached), 0},
	"detach and attach a tree":          {tree, "ALTER TABLE t DETACH PARTITION t3; UPDATE t3 SET note = 'x'; ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (20) TO (40)", because(cdc.LeafReattached), 0},
	"detach and attach deeper":          {tree, "ALTER TABLE t DETACH PARTITION t2; TRUNCATE t2; INSERT INTO t2 VALUES (2, 31); ALTER TABLE t3 ATTACH PARTITION t2 FOR VALUES FROM (30) TO (35)", because(cdc.LeafReattached), 0},
	"attach a loaded table":             {tree, "CREATE TABLE l (LIKE t); INSERT INTO l VALUES (4, 51); ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (50) TO (60)", because(cdc.LeafCame), 0},
	"attach in the transaction of load": {tree, "BEGIN; CREATE TABLE l (LIKE t); INSERT INTO l VALUES (4, 51); ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (50) TO (60); COMMIT", because(cdc.LeafCame), 0},
	"attach a loaded tree":              {tree, "CREATE TABLE l (LIKE t) PARTITION BY RANGE (day); CREATE TABLE l1 PARTITION OF l FOR VALUES FROM (50) TO (60); INSERT INTO l VALUES (4, 51); ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (50) TO (60)", because(cdc.LeafCame), 0},
	"attach to a partition":             {tree, "CREATE TABLE l (LIKE t); INSERT INTO l VALUES (4, 31); ALTER TABLE t3 ATTACH PARTITION l FOR VALUES FROM (30) TO (40)", because(cdc.LeafCame), 0},
	"create, load, truncate":            {tree, "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60); INSERT INTO t VALUES (4, 51); TRUNCATE l; INSERT INTO t VALUES (5, 52)", because(cdc.LeafCame), 0},
	"create, load, detach, attach":      {tree, "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60); ALTER TABLE t DETACH PARTITION l; INSERT INTO l VALUES (4, 51); ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (50) TO (60)", because(cdc.LeafCame), 0},
	"create unlogged":                   {tree, "CREATE UNLOGGED TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60); INSERT INTO t VALUES (4, 51)", because(cdc.LeafCame), 0},
	"unlogged":                          {tree, "ALTER TABLE t1 SET UNLOGGED", because(cdc.LeafPersistence), 0},
	"vacuum full":                       {tree, "VACUUM FULL t1", because(cdc.LeafRewritten), 0},
	"replaced partition":                {tree, "DROP TABLE t1; CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)", because(cdc.LeafGone), 0},

	"create a partition":          {tree, "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60)", nil, 0},
	"create and fill":             {tree, "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60); INSERT INTO t VALUES (4, 51); ALTER TABLE l REPLICA IDENTITY FULL; GRANT SELECT ON l TO PUBLIC; CREATE INDEX ON l (note); ANALYZE l", nil, 0},
	"create a tree and fill":      {tree, "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60) PARTITION BY RANGE (day); CREATE TABLE l1 PARTITION OF l FOR VALUES FROM (50) TO (55); INSERT INTO t VALUES (4, 51)", nil, 0},
	"fill below a known node":     {tree, "CREATE TABLE l PARTITION OF t3 FOR VALUES FROM (30) TO (35); INSERT INTO t VALUES (4, 31)", nil, 0},
	"attach an empty table":       {tree, "CREATE TABLE l (LIKE t INCLUDING ALL); ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (50) TO (60)", nil, 0},
	"attach an empty tree":        {tree, "CREATE TABLE l (LIKE t) PARTITION BY RANGE (day); CREATE TABLE l1 PARTITION OF l FOR VALUES FROM (50) TO (60); ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (50) TO (60)", nil, 0},
	"rename a partition":          {tree, "ALTER TABLE t1 RENAME TO old; CREATE SCHEMA archive; ALTER TABLE old SET SCHEMA archive", nil, 0},
	"work on partitions":          {tree, "UPDATE t SET note = 'z'; DELETE FROM t WHERE id = 1; VACUUM ANALYZE t; CREATE INDEX ON t (note); REINDEX TABLE t; ALTER TABLE t1 REPLICA IDENTITY FULL", nil, 0},
	"no partition below that":     {tree, "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60) PARTITION BY RANGE (day); DROP TABLE l", nil, 0},
	"drop an empty node":          {tree + "CREATE TABLE l PARTITION OF t FOR VALUES FROM (50) TO (60) PARTITION BY RANGE (day);", "DROP TABLE l", nil, 0},
	"session_replication_role":    {tree, "SET session_replication_role = replica; UPDATE t SET note = 'q'; RESET session_replication_role", nil, 0},
	"row security":                {tree, "ALTER TABLE t ENABLE ROW LEVEL SECURITY", nil, 0},
	"roll back":                   {tree, "BEGIN; TRUNCATE t1; DROP TABLE t2; ALTER TABLE t DETACH PARTITION t3; ROLLBACK", nil, 0},
	"partitioned, default":        {tree, "ALTER TABLE t ADD COLUMN extra int DEFAULT 5", because(cdc.ColumnFilled), 0},
	"partitioned, no default":     {tree, "ALTER TABLE t ADD COLUMN extra int", nil, 0},
	"partitioned, domain":         {tree, "ALTER TABLE t ADD COLUMN extra sort", because(cdc.ColumnFilled), 0},
	"partitioned, volatile":       {tree, "ALTER TABLE t ADD COLUMN extra float DEFAULT random()", because(cdc.LeafRewritten, cdc.ColumnFilled), 0},
	"partitioned, type":           {tree, "ALTER TABLE t ALTER note TYPE text USING upper(note)", because(cdc.LeafRewritten, cdc.ColumnType), 0},
	"partitioned, expression":     {"CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);", "ALTER TABLE t ALTER twice SET EXPRESSION AS (id * 3)", because(cdc.LeafRewritten, cdc.ColumnGenerated), 17},
	"truncate the root":           {tree, "TRUNCATE t", because(cdc.LeafRewritten), 0},
	"child, truncated":            {child, "TRUNCATE c", because(cdc.LeafRewritten), 0},
	"child, dropped":              {child, "DROP TABLE c", because(cdc.LeafGone), 0},
	"child, no longer":            {child, "ALTER TABLE c NO INHERIT t", because(cdc.LeafGone), 0},
	"child, not and again":        {child, "ALTER TABLE c NO INHERIT t; ALTER TABLE c INHERIT t", because(cdc.LeafReattached), 0},
	"child, another":              {child, "CREATE TABLE c2 (more text) INHERITS (t)", because(cdc.LeafCame), 0},
	"child, one that was":         {child, "CREATE TABLE c2 (LIKE t); ALTER TABLE c2 INHERIT t", because(cdc.LeafCame), 0},
	"child of a child":            {child, "CREATE TABLE c2 () INHERITS (c)", because(cdc.LeafCame), 0},
	"children, a column":          {child, "ALTER TABLE c ADD COLUMN extra int DEFAULT 5", nil, 0},
	"foreign partition":           {"CREATE TABLE t (id int, note text) PARTITION BY RANGE (id);", "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE f (id int, note text) SERVER files OPTIONS (filename '/dev/null'); ALTER TABLE t ATTACH PARTITION f FOR VALUES FROM (50) TO (60)", because(cdc.LeafCame), 0},
	"swap partitions":             {tree, "ALTER TABLE t DETACH PARTITION t1; ALTER TABLE t DETACH PARTITION t2; UPDATE t1 SET day = 15; UPDATE t2 SET day = 5; ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (10) TO (20); ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (0) TO (10)", because(cdc.LeafReattached), 0},
	"exchange a partition":        {tree, "CREATE TABLE l (LIKE t); INSERT INTO l VALUES (4, 5); BEGIN; ALTER TABLE t DETACH PARTITION t1; ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (0) TO (10); COMMIT", because(cdc.LeafGone, cdc.LeafCame), 0},
	"another default partition":   {tree, "CREATE TABLE l PARTITION OF t DEFAULT; INSERT INTO t VALUES (4, 99)", nil, 0},
	"attach a default partition":  {tree, "CREATE TABLE l (LIKE t); INSERT INTO l VALUES (4, 99); ALTER TABLE t ATTACH PARTITION l DEFAULT", because(cdc.LeafCame), 0},
	"truncate, restart identity":  {tree, "TRUNCATE t1 RESTART IDENTITY", because(cdc.LeafRewritten), 0},
	"cluster a partition":         {tree, "CLUSTER t1 USING t1_pkey", because(cdc.LeafRewritten), 0},
	"access method of a leaf":     {tree, "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; ALTER TABLE t1 SET ACCESS METHOD heap2", because(cdc.LeafRewritten), 15},
	"tablespace of a leaf":        {tree, "SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''; ALTER TABLE t1 SET TABLESPACE elsewhere", because(cdc.LeafRewritten), 15},
	"tablespace":                  {plain, "SET allow_in_place_tablespaces = on; CREATE TABLESPACE away LOCATION ''; ALTER TABLE t SET TABLESPACE away", nil, 15},
	"unlogged and logged":         {tree, "ALTER TABLE t1 SET UNLOGGED; UPDATE t SET note = 'z'; ALTER TABLE t1 SET LOGGED", because(cdc.LeafRewritten), 0},
	"child, a column":             {child, "ALTER TABLE t ADD COLUMN extra int DEFAULT 5", because(cdc.ColumnFilled), 0},
	"child of another, too":       {child, "CREATE TABLE o (id int); ALTER TABLE c ALTER id SET NOT NULL; ALTER TABLE c INHERIT o", nil, 0},
	"child, elsewhere":            {child, "CREATE SCHEMA archive; ALTER TABLE c SET SCHEMA archive; ALTER TABLE archive.c RENAME TO d", nil, 0},
	"new default for a partition": {tree, "ALTER TABLE t1 ALTER note SET DEFAULT 'x'", nil, 0},

	// What was changed and changed back.
	"rename and back":                 {plain, "ALTER TABLE t RENAME TO away; UPDATE away SET note = 'z'; ALTER TABLE away RENAME TO t", because(cdc.TablePublished), 0},
	"rename and back in one":          {tree, "BEGIN; ALTER TABLE t RENAME TO away; ALTER TABLE away RENAME TO t; COMMIT", because(cdc.TablePublished), 0},
	"swap with another and back":      {plain, "CREATE TABLE o (LIKE t); ALTER TABLE t RENAME TO x; ALTER TABLE o RENAME TO t; ALTER TABLE t RENAME TO o; ALTER TABLE x RENAME TO t", because(cdc.TablePublished), 0},
	"another schema and back":         {plain, "CREATE SCHEMA archive; ALTER TABLE t SET SCHEMA archive; ALTER TABLE archive.t SET SCHEMA public", because(cdc.TablePublished), 0},
	"another name of the schema":      {plain, "ALTER SCHEMA public RENAME TO archive; CREATE SCHEMA public; DROP SCHEMA public; ALTER SCHEMA archive RENAME TO public", because(cdc.TablePublished), 0},
	"rename, grant and back":          {plain, "ALTER TABLE t RENAME TO away; GRANT SELECT ON away TO PUBLIC; ALTER TABLE away RENAME TO t", because(cdc.TablePublished), 0},
	"first partition came and went":   {"CREATE TABLE t (id int, note text) PARTITION BY RANGE (id);", "CREATE TABLE l AS SELECT 1 AS id, 'x' AS note; ALTER TABLE t ATTACH PARTITION l FOR VALUES FROM (0) TO (10); ALTER TABLE t DETACH PARTITION l", because(cdc.LeafGone), 0},
	"first child came and went":       {plain, "CREATE TABLE c () INHERITS (t); INSERT INTO c (id) VALUES (7); DROP TABLE c", because(cdc.LeafGone), 0},
	"owner and privileges":            {plain, "CREATE ROLE clerk; ALTER TABLE t OWNER TO clerk; GRANT SELECT ON t TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC; ALTER SCHEMA public OWNER TO clerk; ALTER TYPE mood OWNER TO clerk", nil, 0},
	"trigger, rule, options, comment": {plain, "CREATE RULE r AS ON DELETE TO t WHERE false DO NOTHING; ALTER TABLE t SET (fillfactor = 50); ALTER TABLE t ADD CHECK (day < 1000) NOT VALID; COMMENT ON TABLE t IS 'x'; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE INDEX ON t (note); ANALYZE t; VACUUM t", nil, 0},

	// Values that change with the columns.
	"column":                    {plain, "ALTER TABLE t ADD COLUMN extra int", nil, 0},
	"column, default NULL":      {plain, "ALTER TABLE t ADD COLUMN extra int DEFAULT NULL", nil, 0},
	"column, default":           {plain, "ALTER TABLE t ADD COLUMN extra int DEFAULT 5", because(cdc.ColumnFilled), 0},
	"column, default, vacuum":   {plain, "ALTER TABLE t ADD COLUMN extra int DEFAULT 5; VACUUM FULL t", because(cdc.ColumnFilled), 0},
	"column, later default":     {plain, "ALTER TABLE t ADD COLUMN extra int; ALTER TABLE t ALTER extra SET DEFAULT 5", nil, 0},
	"column, volatile default":  {plain, "ALTER TABLE t ADD COLUMN extra float DEFAULT random()", because(cdc.ColumnFilled), 0},
	"column, serial":            {plain, "ALTER TABLE t ADD COLUMN extra serial", because(cdc.ColumnFilled), 0},
	"column, identity":          {plain, "ALTER TABLE t ADD COLUMN extra int GENERATED ALWAYS AS IDENTITY", because(cdc.ColumnFilled), 0},
	"column, domain":            {plain, "ALTER TABLE t ADD COLUMN extra sort", because(cdc.ColumnFilled), 0},
	"column, generated":         {plain, "ALTER TABLE t ADD COLUMN extra text GENERATED ALWAYS AS (lower(note)) STORED", because(cdc.ColumnGenerated), 0},
	"column, virtual":           {plain, "ALTER TABLE t ADD COLUMN extra text GENERATED ALWAYS AS (lower(note)) VIRTUAL", because(cdc.ColumnGenerated), 18},
	"expression":                {"CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);", "ALTER TABLE t ALTER twice SET EXPRESSION AS (id * 3)", because(cdc.ColumnGenerated), 17},
	"virtual expression":        {"CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL);", "ALTER TABLE t ALTER twice SET EXPRESSION AS (id * 3)", because(cdc.ColumnGenerated), 18},
	"no expression any more":    {"CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);", "ALTER TABLE t ALTER twice DROP EXPRESSION", nil, 0},
	"type":                      {plain, "ALTER TABLE t ALTER day TYPE bigint", because(cdc.ColumnType), 0},
	"type, the same, USING":     {plain, "ALTER TABLE t ALTER note TYPE text USING upper(note)", because(cdc.ColumnType), 0},
	"type, another and back":    {plain, "ALTER TABLE t ALTER price TYPE int; ALTER TABLE t ALTER price TYPE numeric(10,2)", because(cdc.ColumnType), 0},
	"type, precision":           {plain, "ALTER TABLE t ALTER price TYPE numeric(10,1)", because(cdc.ColumnType), 0},
	"type, collation":           {plain, `ALTER TABLE t ALTER note TYPE text COLLATE "C"`, because(cdc.ColumnType), 0},
	"drop a column":             {plain, "ALTER TABLE t DROP COLUMN day", because(cdc.ColumnDropped), 0},
	"drop a column, and add it": {plain, "ALTER TABLE t DROP COLUMN day; ALTER TABLE t ADD COLUMN day int", because(cdc.ColumnDropped), 0},
	"drop a domain":             {plain, "DROP DOMAIN sort CASCADE; CREATE DOMAIN sort AS text", because(cdc.ColumnDropped), 0},
	"rename a column":           {plain, "ALTER TABLE t RENAME note TO remark", because(cdc.ColumnRenamed), 0},
	"swap columns":              {plain, "ALTER TABLE t RENAME note TO x; ALTER TABLE t RENAME day TO note; ALTER TABLE t RENAME x TO day", because(cdc.ColumnRenamed), 0},
	"enum label":                {plain, "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", because(cdc.TypeChanged), 0},
	"enum label, more":          {plain, "ALTER TYPE mood ADD VALUE 'fine' BEFORE 'ok'", nil, 0},
	"enum in an array":          {"CREATE TABLE t (id int PRIMARY KEY, moods mood[]);", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", because(cdc.TypeChanged), 0},
	"enum in a domain":          {"CREATE DOMAIN temper AS mood; CREATE TABLE t (id int PRIMARY KEY, m temper);", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", because(cdc.TypeChanged), 0},
	"enum in a composite":       {"CREATE TYPE person AS (name text, m mood[]); CREATE TABLE t (id int PRIMARY KEY, p person[]);", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", because(cdc.TypeChanged), 0},
	"enum in a range":           {"CREATE TYPE moods AS RANGE (subtype = mood); CREATE TABLE t (id int PRIMARY KEY, m moods, n moods[]);", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", because(cdc.TypeChanged), 0},
	"enum in a multirange":      {"CREATE TYPE moods AS RANGE (subtype = mood, multirange_type_name = moods_multi); CREATE TABLE t (id int PRIMARY KEY, m moods_multi);", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", because(cdc.TypeChanged), 0},
	"another enum":              {"CREATE TYPE other AS ENUM ('a'); " + plain, "ALTER TYPE other RENAME VALUE 'a' TO 'b'", nil, 0},
	"composite, a field":        {plain, "ALTER TYPE place ADD ATTRIBUTE z int", because(cdc.TypeChanged), 0},
	"composite, one less":       {plain, "ALTER TYPE place DROP ATTRIBUTE y", because(cdc.TypeChanged), 0},
	"composite, a name":         {plain, "ALTER TYPE place RENAME ATTRIBUTE y TO z", because(cdc.TypeChanged), 0},
	"policies":                  {plain, "CREATE POLICY p ON t USING (id < 5); ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY", nil, 0},
	"no identity any more":      {plain, "ALTER TABLE t REPLICA IDENTITY NOTHING; ALTER TABLE t DROP CONSTRAINT t_pkey", nil, 0},
	"privileges on columns":     {plain, "GRANT SELECT (note) ON t TO PUBLIC; REVOKE SELECT (note) ON t FROM PUBLIC", nil, 0},
	"identity for a column":     {plain, "ALTER TABLE t ALTER day SET NOT NULL; ALTER TABLE t ALTER day ADD GENERATED BY DEFAULT AS IDENTITY; ALTER TABLE t ALTER day DROP IDENTITY", nil, 0},
	"a table of a type":         {"CREATE TYPE article AS (id int, note text); CREATE TABLE t (id int, note text);", "ALTER TABLE t OF article; ALTER TABLE t NOT OF", nil, 0},
	"a field of its type":       {"CREATE TYPE article AS (id int, note text); CREATE TABLE t OF article;", "ALTER TYPE article ADD ATTRIBUTE more int CASCADE", nil, 0},
	"a type of its type":        {"CREATE TYPE article AS (id int, note text); CREATE TABLE t OF article; INSERT INTO t VALUES (1, '1');", "ALTER TYPE article ALTER ATTRIBUTE note TYPE varchar(9) CASCADE", because(cdc.ColumnType), 0},
	"drop an extension":         {"CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, note citext);", "DROP EXTENSION citext CASCADE", because(cdc.ColumnDropped), 0},
	"rename a type":             {plain, "ALTER TYPE mood RENAME TO temper; CREATE SCHEMA archive; ALTER TYPE temper SET SCHEMA archive", nil, 0},
	"domain":                    {plain, "ALTER DOMAIN sort SET DEFAULT 'b'; ALTER DOMAIN sort ADD CONSTRAINT short CHECK (length(value) < 9)", nil, 0},
	"default":                   {plain, "ALTER TABLE t ALTER note SET DEFAULT 'x'", nil, 0},
	"statistics, storage":       {plain, "ALTER TABLE t ALTER note SET STATISTICS 100; ALTER TABLE t ALTER note SET STORAGE EXTERNAL; ALTER TABLE t ALTER note SET NOT NULL", nil, 0},
	"vacuum full, cluster":      {plain, "VACUUM FULL t; CLUSTER t USING t_pkey", nil, 0},
	"rows":                      {plain, "UPDATE t SET note = 'x'; DELETE FROM t; INSERT INTO t VALUES (5); TRUNCATE t", nil, 0},
}

// TestWhatDifferencesMean does each of these to a table, and compares its descriptions.
func TestWhatDifferencesMean(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	version, err := serverVersion(t.Context(), s.conn)
	require.NoError(t, err)
	for name, c := range shapeCases {
		if version < c.since*10000 {
			continue
		}
		s.exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS archive CASCADE; DROP EXTENSION IF EXISTS file_fdw CASCADE")
		s.exec("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN sort AS text DEFAULT 'z'; CREATE TYPE place AS (x int, y int)")
		s.exec(c.before)
		var oid uint32
		require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT 'public.t'::regclass::oid").Scan(&oid))
		_, before, err := s.cfg.describe(t.Context(), s.conn, []uint32{oid}, nil)
		require.NoError(t, err)
		s.statements(c.change)
		_, after, err := s.cfg.describe(t.Context(), s.conn, []uint32{oid}, before)
		require.NoError(t, err)
		facts, err := factsOf(t.Context(), s.conn, shape.Arrived(&before[oid].Table, &after[oid].Table))
		require.NoError(t, err)
		var got []cdc.TableCause
		for _, d := range shape.Compare(&before[oid].Table, &after[oid].Table, facts) {
			if !slices.Contains(got, d.Cause) {
				got = append(got, d.Cause)
			}
		}
		assert.Equal(t, c.want, got, name)
		_, again, err := s.cfg.describe(t.Context(), s.conn, []uint32{oid}, after)
		require.NoError(t, err)
		require.Same(t, after[oid], again[oid], "%s: what did not change is not read again", name)
	}
}

// A partition whose DETACH CONCURRENTLY was cancelled is pending: queries of the root leave it out, and
// FINALIZE changes nothing more.
func TestPendingDetach(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN sort AS text DEFAULT 'z'; CREATE TYPE place AS (x int, y int); " + tree)
	var oid uint32
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT 'public.t'::regclass::oid").Scan(&oid))
	causes := func(before map[uint32]*description) (map[uint32]*description, []cdc.TableCause) {
		t.Helper()
		_, after, err := s.cfg.describe(t.Context(), s.conn, []uint32{oid}, before)
		require.NoError(t, err)
		var got []cdc.TableCause
		for _, d := range shape.Compare(&before[oid].Table, &after[oid].Table, shape.Facts{}) {
			got = append(got, d.Cause)
		}
		return after, got
	}
	_, first, err := s.cfg.describe(t.Context(), s.conn, []uint32{oid}, nil)
	require.NoError(t, err)
	reading, err := s.cfg.Connect(t.Context())
	require.NoError(t, err)
	defer reading.Close(context.Background())
	_, err = reading.Exec(t.Context(), "BEGIN; SELECT FROM public.t")
	require.NoError(t, err)
	s.exec("SET statement_timeout = '1s'")
	_, err = s.conn.Exec(t.Context(), "ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY")
	require.Equal(t, "57014", sqlState(err), "it waits for the reader, and is cancelled: %v", err)
	s.exec("SET statement_timeout = 0")
	pending, got := causes(first)
	require.Equal(t, because(cdc.LeafGone), got)
	_, err = reading.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	s.exec("UPDATE t1 SET note = 'z'")
	s.exec("ALTER TABLE t DETACH PARTITION t1 FINALIZE")
	_, got = causes(pending)
	require.Empty(t, got)
}

// statements runs statements one by one, since some cannot be in a transaction.
func (s *server) statements(sql string) {
	s.t.Helper()
	for one := range strings.SplitSeq(sql, "; ") {
		s.exec(one)
	}
}

// causes returns the causes of the gaps from the nth on, once the stream has brought all that was
// written before.
func (r *running) causes(s *server, n int) (out []cdc.TableCause) {
	s.t.Helper()
	r.compared(s.t)
	r.caughtUp(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.gaps[n:] {
		out = append(out, g.Causes...)
	}
	return out
}

// reconnected waits until no reconnect is due. PostgreSQL 14 needs one after ATTACH, and the reader then
// announces the table once more.
func (r *running) reconnected(t *testing.T) {
	t.Helper()
	eventually(t, hang, func() bool {
		r.compared(t)
		return len(r.reconnect.now().tables) == 0
	}, "no reconnect is due")
	r.compared(t) // which saves that
}

// TestShapesChange changes what tables contain: before the first heartbeat, while the reader runs,
// and while none does.
func TestShapesChange(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.memory = &kept{}
	s.cfg.Heartbeat = time.Hour
	orders, goods := cdc.Table{Schema: "public", Name: "t"}, cdc.Table{Schema: "public", Name: "goods"}
	s.watches = Watch{Tables: []cdc.Table{items, orders, goods}, Sees: func(t cdc.Table, column string) bool { return t != goods || column == "price" }}
	s.exec("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN sort AS text; CREATE TYPE place AS (x int, y int); " + tree)
	s.exec("CREATE TABLE goods (id int PRIMARY KEY, note text, price int, mood mood)")

	// From the creation of the slot on nothing is missed.
	cfg := s.cfg
	conn, err := cfg.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	first := NewReader(s.cfg, Options{Board: watermark.NewBoard(), Logger: slog.New(slog.DiscardHandler), Watch: s.watch, Memory: s.memory})
	_, err = first.ensure(t.Context(), conn, false)
	require.NoError(t, err)
	s.exec("TRUNCATE t1")
	r := s.run(&sinkhole{}, Streaming)
	require.Equal(t, because(cdc.LeafRewritten), r.causes(s, 0))
	gap, _ := r.gap(t, 0)
	require.Equal(t, []cdc.Table{orders}, gap.Tables)

	// One comparison is one gap.
	s.exec("DROP TABLE t2; ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TABLE items ADD COLUMN more int DEFAULT 5")
	require.ElementsMatch(t, because(cdc.LeafGone, cdc.ColumnFilled, cdc.TypeChanged), r.causes(s, 1))
	gap, _ = r.gap(t, 1)
	require.Equal(t, []cdc.Table{items, orders}, gap.Tables, "no rule of goods sees it")
	s.exec("ALTER TABLE goods ALTER price TYPE bigint; ALTER TABLE goods DROP COLUMN note")
	require.Equal(t, because(cdc.ColumnType), r.causes(s, 2))
	s.exec("CREATE TABLE t4 PARTITION OF t FOR VALUES FROM (50) TO (60); ALTER TABLE goods ADD COLUMN other text DEFAULT 'x'; ALTER TABLE items ADD COLUMN another text")
	require.Empty(t, r.causes(s, 3))

	// A partition that no comparison sees: the stream brought rows of it.
	s.exec("CREATE TABLE brief PARTITION OF t FOR VALUES FROM (60) TO (70)")
	s.exec("INSERT INTO t VALUES (9, 61)")
	s.exec("DROP TABLE brief")
	// One that comes upon it in the moment of its end finds that it came, too.
	require.Contains(t, r.causes(s, 3), cdc.LeafGone)
	r.mu.Lock()
	n := len(r.gaps)
	r.mu.Unlock()
	s.exec("INSERT INTO t VALUES (10, 51)")
	require.Empty(t, r.causes(s, n), "rows of one that is there")

	// A partition that came and went before a process that was killed compared anything.
	memory := s.memory.(*kept)
	r.widening.Lock() // no comparison begins
	s.exec("CREATE TABLE brief PARTITION OF t FOR VALUES FROM (60) TO (70); INSERT INTO t VALUES (9, 61)")
	r.caughtUp(s)
	memory.mu.Lock()
	killed := memory.seen
	memory.mu.Unlock()
	r.widening.Unlock()
	r.end(t)
	memory.seen = killed
	s.exec("DROP TABLE brief")
	r = s.run(&sinkhole{}, Streaming)
	require.Equal(t, because(cdc.LeafGone), r.causes(s, 0))
	n = 1

	s.exec("ALTER TABLE t31 SET UNLOGGED")
	require.Equal(t, because(cdc.LeafPersistence), r.causes(s, n))
	require.Equal(t, []string{"t31, which belongs to table public.t, is unlogged: its changes are not in the log, and nothing is purged for them; fix: ALTER TABLE t31 SET LOGGED"}, r.problems())
	s.exec("ALTER TABLE t31 SET LOGGED")
	require.Equal(t, because(cdc.LeafPersistence), r.causes(s, n+1))
	require.Empty(t, r.problems())

	// While no reader runs; and an announcement that is in the log when a reader ends is believed by the next.
	r.freeze(true)
	s.exec("TRUNCATE t4")
	require.Equal(t, because(cdc.LeafRewritten), r.causes(s, n+2))
	r.end(t)
	s.exec("ALTER TABLE t DETACH PARTITION t1; UPDATE t1 SET note = 'z'; ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)")
	r = s.run(&sinkhole{}, Streaming)
	// The announcement before is read again, too, if it was not confirmed when confirming was stopped.
	again := r.causes(s, 0)
	require.Subset(t, again, because(cdc.LeafRewritten, cdc.LeafReattached))
	require.Subset(t, because(cdc.LeafPersistence, cdc.LeafRewritten, cdc.LeafReattached), again)
	r.reconnected(t)
	r.end(t)
	r = s.run(&sinkhole{}, Streaming)
	require.Empty(t, r.causes(s, 0), "once")
	r.end(t)

	// What an older version remembers has no descriptions.
	var old map[string]any
	require.NoError(t, json.Unmarshal(memory.seen, &old))
	delete(old, "described")
	delete(old, "nonce")
	memory.seen, err = json.Marshal(old)
	require.NoError(t, err)
	r = s.run(&sinkhole{}, Streaming)
	require.Empty(t, r.causes(s, 0), "an upgrade is no gap")
	s.exec("TRUNCATE t1")
	require.Equal(t, because(cdc.LeafRewritten), r.causes(s, 0))
}

// TestRenamedAndBack: changes under another name are changes of the table.
func TestRenamedAndBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.cfg.Heartbeat = time.Hour
	s.exec("CREATE TABLE others (id int PRIMARY KEY, note text)")
	others := cdc.Table{Schema: "public", Name: "others"}
	s.watches = Watch{Tables: []cdc.Table{items, others}}
	var mu sync.Mutex
	seen := make(map[string]int)
	r := s.run(&sinkhole{hold: func(c *cdc.Change) {
		row := c.New
		if row == nil {
			row = cdc.Tuple{{}}
		}
		mu.Lock()
		defer mu.Unlock()
		seen[c.Rel.String()+" "+string(row[0].Data)]++
	}}, Streaming)
	r.compared(t)
	r.widening.Lock() // no comparison begins, which would find that the table is away
	compare := sync.OnceFunc(r.widening.Unlock)
	t.Cleanup(compare)
	s.exec("BEGIN; ALTER TABLE items RENAME TO away; INSERT INTO away VALUES (1, 'x'); COMMIT; INSERT INTO away VALUES (2, 'x'); ALTER TABLE away RENAME TO items; INSERT INTO items VALUES (3, 'x')")
	s.exec("CREATE SCHEMA elsewhere; ALTER TABLE items SET SCHEMA elsewhere")
	s.exec("INSERT INTO elsewhere.items VALUES (4, 'x')")
	s.exec("ALTER TABLE elsewhere.items SET SCHEMA public")
	s.exec("ALTER TABLE items RENAME TO x; ALTER TABLE others RENAME TO items; ALTER TABLE x RENAME TO others")
	s.exec("INSERT INTO others VALUES (5, 'x')")
	s.exec("ALTER TABLE items RENAME TO x; ALTER TABLE others RENAME TO items; ALTER TABLE x RENAME TO others")
	s.exec("INSERT INTO items VALUES (6, 'x')")
	eventually(t, 20*time.Second, func() bool { mu.Lock(); defer mu.Unlock(); return seen["public.items 6"] == 1 }, "all changes come")
	mu.Lock()
	got := maps.Clone(seen)
	mu.Unlock()
	compare()
	require.Equal(t, map[string]int{"public.away 1": 1, "public.items 1": 1, "public.away 2": 1, "public.items 2": 1, "public.items 3": 1,
		"elsewhere.items 4": 1, "public.items 4": 1, "public.others 5": 1, "public.items 5": 1, "public.items 6": 1}, got)
	r.compared(t)
	eventually(t, 20*time.Second, func() bool { return r.gapOf(items) }, "what was read while it was away is purged")
}

// gapOf reports whether a gap of the table was announced.
func (r *running) gapOf(t cdc.Table) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.gaps, func(g cdc.TableGap) bool { return slices.Contains(g.Tables, t) })
}
