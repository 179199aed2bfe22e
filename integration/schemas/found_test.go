package schemas

import (
	"fmt"
	"slices"
	"testing"

	"github.com/walpurge/walpurge/cdc"
)

// parts is a partitioned table with rows, and items an ordinary one.
const (
	parts = "CREATE TABLE parts (id int PRIMARY KEY, note text) PARTITION BY RANGE (id); CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (10); " +
		"CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (10) TO (20); INSERT INTO parts VALUES (1, 'a'), (11, 'b')"
	items = "CREATE TYPE mood AS ENUM ('low', 'high'); CREATE TABLE items (id int PRIMARY KEY, note text, feeling mood); INSERT INTO items VALUES (1, 'a', 'low'), (2, 'b', 'high')"
)

// found are what random schemas have found, made as small as possible: the schema, the table of the
// rule, and the steps.
var found = []struct {
	setup, table string
	steps        []step
}{
	{parts, "parts", []step{statements("TRUNCATE parts_0")}},
	{parts, "parts", []step{statements("DROP TABLE parts_1")}},
	{parts, "parts", []step{statements("ALTER TABLE parts DETACH PARTITION parts_0")}},
	{parts, "parts", []step{statements("ALTER TABLE parts DETACH PARTITION parts_0 CONCURRENTLY")}},
	{parts, "parts", []step{statements("BEGIN; ALTER TABLE parts DETACH PARTITION parts_0; DELETE FROM parts_0; ALTER TABLE parts ATTACH PARTITION parts_0 FOR VALUES FROM (0) TO (10); COMMIT")}},
	{parts, "parts", []step{statements("CREATE TABLE parts_2 (LIKE parts INCLUDING ALL); INSERT INTO parts_2 VALUES (21, 'c'); ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (20) TO (30)")}},
	// The rollback leaves the number of its command where the number of ATTACH's command was.
	{parts, "parts", []step{statements("CREATE TABLE parts_2 (LIKE parts INCLUDING ALL); INSERT INTO parts_2 VALUES (21, 'c'); ALTER TABLE parts ATTACH PARTITION parts_2 DEFAULT",
		"BEGIN; ALTER TABLE parts RENAME note TO gone; ALTER TABLE parts RENAME gone TO note; ROLLBACK")}},
	{parts, "parts", []step{statements("ALTER TABLE parts_0 SET UNLOGGED"), statements("DELETE FROM parts")}},
	{parts, "parts", []step{{kind: stop}, statements("TRUNCATE parts_0"), {kind: start}}},
	{parts, "parts", []step{{kind: kill, sql: []string{"CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (20) TO (30)", "INSERT INTO parts VALUES (21, 'c')", "DROP TABLE parts_2"}}, {kind: start}}},
	{parts, "parts", []step{{kind: kill, sql: []string{"ALTER TABLE parts RENAME TO away", "UPDATE away SET note = 'z'", "ALTER TABLE away RENAME TO parts"}}, {kind: start}}},
	{parts, "parts", []step{statements(other+"BEGIN; UPDATE parts SET note = 'z'", "CREATE TABLE parts_2 (LIKE parts INCLUDING ALL); INSERT INTO parts_2 VALUES (21, 'c'); ALTER TABLE parts ATTACH PARTITION parts_2 DEFAULT",
		other+"UPDATE parts SET note = 'y' WHERE id = 21; COMMIT")}},
	// The server describes a partitioned table again when a partition changes, and not when the table itself gets another name.
	{parts, "parts", []step{statements("ALTER TABLE parts RENAME TO away"), statements("UPDATE away SET note = 'z'"), statements("ALTER TABLE away RENAME TO parts"), statements("DELETE FROM parts WHERE id = 1")}},
	{parts + "; CREATE SCHEMA attic", "parts", []step{statements("ALTER TABLE parts SET SCHEMA attic"), statements("UPDATE attic.parts SET note = 'z'"), statements("ALTER TABLE attic.parts SET SCHEMA public"), statements("UPDATE parts SET note = 'y'")}},
	{parts + "; CREATE TABLE others (LIKE parts INCLUDING ALL) PARTITION BY RANGE (id); CREATE TABLE others_0 PARTITION OF others DEFAULT; INSERT INTO others VALUES (2, 'o')", "parts", []step{
		statements("UPDATE parts SET note = 'z'", "BEGIN; ALTER TABLE parts RENAME TO away; ALTER TABLE others RENAME TO parts; COMMIT"), statements("UPDATE parts SET note = 'y'", "UPDATE away SET note = 'y'"),
		statements("BEGIN; ALTER TABLE parts RENAME TO others; ALTER TABLE away RENAME TO parts; COMMIT"), statements("DELETE FROM parts WHERE id = 11")}},
	{items, "items", []step{statements("ALTER TABLE items ADD COLUMN more int DEFAULT 7")}},
	{items, "items", []step{statements("ALTER TABLE items ADD COLUMN more int DEFAULT length('ab')")}},
	{items, "items", []step{statements("ALTER TABLE items ADD COLUMN more int GENERATED ALWAYS AS (id + 1) STORED")}},
	{items, "items", []step{statements("ALTER TABLE items ALTER note TYPE text USING upper(note)")}},
	{items, "items", []step{statements("ALTER TYPE mood RENAME VALUE 'low' TO 'lower'")}},
	{items, "items", []step{statements("ALTER TYPE mood RENAME VALUE 'low' TO 'lower'", "ALTER TYPE mood RENAME VALUE 'high' TO 'low'")}},
	{items, "items", []step{statements("ALTER TYPE mood RENAME VALUE 'low' TO 'other'", "ALTER TYPE mood RENAME VALUE 'other' TO 'low'")}},
	{items, "items", []step{statements("ALTER TABLE items RENAME TO away; DELETE FROM away WHERE id = 1; ALTER TABLE away RENAME TO items")}},
	{items, "items", []step{statements("BEGIN; INSERT INTO items VALUES (3, 'c', 'low'); ALTER TABLE items RENAME TO away; INSERT INTO away VALUES (4, 'd', 'low'); COMMIT", "ALTER TABLE away RENAME TO items")}},
	// Away when the daemon looks last, and back when it starts.
	{items, "items", []step{statements("ALTER TABLE items RENAME TO away", "DELETE FROM away WHERE id = 1"), {kind: stop}, statements("ALTER TABLE away RENAME TO items"), {kind: start}}},
}

func statements(sql ...string) step { return step{sql: sql} }

func TestFoundSchemas(t *testing.T) {
	t.Parallel()
	pg := newServer(t)
	worlds := make(chan *world, 3)
	for i := range cap(worlds) {
		worlds <- newWorld(t, pg, fmt.Sprintf("found_%d", i))
	}
	try := func(name, setup, table string, steps []step, since int) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := <-worlds
			defer func() { worlds <- w }()
			if w.major < since {
				return // the server does not have it
			}
			s := &script{setup: []string{setup}, steps: steps, watch: []watch{{
				name: "r", table: cdc.Table{Schema: "public", Name: table}, yaml: "    keys: ['r:{id}']\n", key: "t.id",
			}}}
			v := w.run(s)
			if v.refused != nil || v.failure != "" || v.changed == 0 || v.failed > 0 {
				t.Errorf("%d answers changed, %d statements failed; refused: %v\n%s\n%s\n%s", v.changed, v.failed, v.refused, v.failure, s, v.log)
			}
		})
	}
	for i, f := range found {
		try(fmt.Sprint(i), f.setup, f.table, f.steps, 0)
	}
	for _, p := range slices.Concat(publications, morePublications, keyTypes) {
		try(p.name, p.setup, "items", p.steps, p.since)
	}
}
