package schemas

// ofAll, ofSchema and ofTable are publications that another role created and alters.
const (
	ofAll    = "; CREATE PUBLICATION published FOR ALL TABLES WITH (publish_via_partition_root)"
	ofSchema = "; CREATE PUBLICATION published FOR TABLES IN SCHEMA public WITH (publish_via_partition_root)"
	ofTable  = "; CREATE PUBLICATION published FOR TABLE items WITH (publish_via_partition_root)"

	dropSchema = "ALTER PUBLICATION published DROP TABLES IN SCHEMA public"
	addSchema  = "ALTER PUBLICATION published ADD TABLES IN SCHEMA public"
	insertOnly = "ALTER PUBLICATION published SET (publish = 'insert')"
	everything = "ALTER PUBLICATION published SET (publish = 'insert, update, delete, truncate')"

	update    = "UPDATE items SET note = 'z'"
	otherwise = "UPDATE items SET note = 'y'"
	partItems = parts + "; ALTER TABLE parts RENAME TO items"
	owned     = items + "; CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o VALUES (1), (2); ALTER TABLE items ADD FOREIGN KEY (id) REFERENCES o ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED"
)

// published is a script with a publication that another role has created, and perhaps alters.
type published struct {
	name, setup string
	steps       []step
	// since is the first major version that has it, 0 for all.
	since int
}

var publications = []published{
	{"left and back", items + ofSchema, []step{statements(dropSchema, update, addSchema)}, 15},
	{"left and back, stopped", items + ofSchema, []step{{kind: stop}, statements(dropSchema, update, addSchema), {kind: start}}, 15},
	{"left and back, prepared writer", items + ofSchema, []step{statements(dropSchema, "BEGIN; "+update+"; PREPARE TRANSACTION GID", addSchema), statements("COMMIT PREPARED GID")}, 15},
	{"unlogged and logged", items + ofAll, []step{statements("ALTER TABLE items SET UNLOGGED", update, "ALTER TABLE items SET LOGGED")}, 0},
	{"unlogged and logged, stopped", items + ofAll, []step{{kind: stop}, statements("ALTER TABLE items SET UNLOGGED", update, "ALTER TABLE items SET LOGGED"), {kind: start}}, 0},
	{"insert only and back, open writer", items + ofAll, []step{statements(insertOnly, other+"BEGIN; "+update, everything), statements(other + "COMMIT")}, 0},
	{"insert only, stopped, open writer", items + ofAll, []step{statements(insertOnly, update), {kind: stop}, statements(other+"BEGIN; "+otherwise, everything), {kind: start}, statements(other + "COMMIT")}, 0},
	{"filter and back, open writer", items + ofTable, []step{statements("ALTER PUBLICATION published SET TABLE items WHERE (id > 5)", other+"BEGIN; "+update, "ALTER PUBLICATION published SET TABLE items"), statements(other + "COMMIT")}, 15},
	{"created again AS", items + ofAll, []step{statements("BEGIN; ALTER TABLE items RENAME TO old; CREATE TABLE items AS SELECT id, 'y' AS note, feeling FROM old WHERE id = 1; ALTER TABLE items ADD PRIMARY KEY (id); COMMIT", update)}, 0},
	{"copy freeze", items + ofAll, []step{statements(`BEGIN; TRUNCATE items; COPY items FROM PROGRAM 'printf "1\\tq\\tlow\\n3\\tr\\tlow\\n"' (FREEZE); COMMIT`)}, 0},
	{"prepared", items + ofAll, []step{statements("BEGIN; " + update + "; PREPARE TRANSACTION GID"), {kind: stop}, {kind: start}, statements("COMMIT PREPARED GID"), statements("BEGIN; DELETE FROM items; PREPARE TRANSACTION GID", "ROLLBACK PREPARED GID", "DELETE FROM items WHERE id = 1")}, 0},
	{"schemas change places", items + "; CREATE SCHEMA attic; CREATE TABLE attic.items (LIKE items INCLUDING ALL); INSERT INTO attic.items VALUES (1, 'q', 'low'), (4, 'r', 'low')" + ofAll, []step{
		statements(update, "UPDATE attic.items SET note = 'w'"), statements("BEGIN; ALTER SCHEMA public RENAME TO old; ALTER SCHEMA attic RENAME TO public; COMMIT"), statements("UPDATE public.items SET note = 'v'"), statements("DELETE FROM items WHERE id = 4")}, 0},
	{"not by the root", partItems + ofAll, []step{statements("ALTER PUBLICATION published SET (publish_via_partition_root = false)", update, "ALTER PUBLICATION published SET (publish_via_partition_root)"), statements("DELETE FROM items")}, 0},
	{"cascades", owned + ofAll, []step{statements("UPDATE o SET id = 7 WHERE id = 1"), statements("DELETE FROM o WHERE id = 2"), statements("TRUNCATE o CASCADE")}, 0},
	{"view in its place", items + ofAll, []step{statements("BEGIN; ALTER TABLE items RENAME TO base; CREATE VIEW items AS SELECT * FROM base; COMMIT"), statements("UPDATE base SET note = 'z'")}, 0},
}
