//go:build full

package schemas

var morePublications = []published{
	{"left, and back later", items + ofSchema, []step{statements(dropSchema, update), statements("DELETE FROM items WHERE id = 1"), statements(addSchema)}, 15},
	{"left and back, open writer", items + ofSchema, []step{statements(dropSchema, other+"BEGIN; "+update, addSchema), statements(other + "COMMIT")}, 15},
	{"schema and back", items + ofSchema, []step{statements("CREATE SCHEMA attic; ALTER TABLE items SET SCHEMA attic", "UPDATE attic.items SET note = 'z'", "ALTER TABLE attic.items SET SCHEMA public")}, 15},
	{"unlogged and logged, schema", items + ofSchema, []step{statements("ALTER TABLE items SET UNLOGGED", update, "ALTER TABLE items SET LOGGED")}, 15},
	{"unlogged, later logged", items + ofAll, []step{statements("ALTER TABLE items SET UNLOGGED", update), statements("ALTER TABLE items SET LOGGED"), statements(otherwise)}, 0},
	{"insert only and back", items + ofAll, []step{statements(insertOnly, update, everything)}, 0},
	{"insert only and back, prepared writer", items + ofAll, []step{statements(insertOnly, "BEGIN; "+update+"; PREPARE TRANSACTION GID", everything), {kind: stop}, {kind: start}, statements("COMMIT PREPARED GID")}, 0},
	{"insert only and back, table, open writer", items + ofTable, []step{statements(insertOnly, other+"BEGIN; "+update, everything), statements(other + "COMMIT")}, 0},
	{"truncate not published", items + ofAll, []step{statements("ALTER PUBLICATION published SET (publish = 'insert, update, delete')", "TRUNCATE items", everything)}, 0},
	{"filter and back", items + ofTable, []step{statements("ALTER PUBLICATION published SET TABLE items WHERE (id > 5)", update, "ALTER PUBLICATION published SET TABLE items")}, 15},
	{"columns and back", items + ofTable, []step{statements("ALTER PUBLICATION published SET TABLE items (id)", update, "ALTER PUBLICATION published SET TABLE items")}, 15},
	{"another table for a while", items + "; CREATE TABLE o (id int PRIMARY KEY)" + ofTable, []step{statements("ALTER PUBLICATION published SET TABLE o", update, "ALTER PUBLICATION published SET TABLE items")}, 0},
	{"another publication of that name", items + ofAll, []step{statements("DROP PUBLICATION published", update, ofAll[2:])}, 0},
	{"renamed and back", items + ofAll, []step{statements("ALTER PUBLICATION published RENAME TO other", update, "ALTER PUBLICATION other RENAME TO published")}, 0},
	{"created again in one transaction", items + ofAll, []step{statements("BEGIN; DROP TABLE items; CREATE TABLE items (id int PRIMARY KEY, note text, feeling mood); INSERT INTO items VALUES (2, 'b', 'low'); COMMIT", update)}, 0},
	{"prepared DDL", items, []step{statements("BEGIN; UPDATE items SET note = 'z'; ALTER TYPE mood RENAME VALUE 'low' TO 'lower'; PREPARE TRANSACTION GID"), {kind: stop}, statements("COMMIT PREPARED GID"), {kind: start}}, 0},
	{"partition attached, open writer", partItems + ofAll, []step{statements(other+"BEGIN; "+update, "CREATE TABLE parts_2 (LIKE items INCLUDING ALL); INSERT INTO parts_2 VALUES (21, 'c'); ALTER TABLE items ATTACH PARTITION parts_2 DEFAULT",
		other+"UPDATE items SET note = 'y' WHERE id = 21; COMMIT")}, 0},
	// PostgreSQL 14 sends no rows of the partition before the daemon has reconnected.
	{"loaded by another, attached", partItems + "; CREATE TABLE parts_2 (LIKE items INCLUDING ALL)" + ofAll, []step{statements(other + "BEGIN; INSERT INTO parts_2 VALUES (22, 'd')"), statements(other+"COMMIT", "ALTER TABLE items ATTACH PARTITION parts_2 DEFAULT"), statements(update)}, 15},
	{"cascades, table", owned + ofTable, []step{statements("UPDATE o SET id = 7 WHERE id = 1"), statements("DELETE FROM o WHERE id = 2"), statements("TRUNCATE o CASCADE")}, 0},
}
