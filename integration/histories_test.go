package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
)

// historySchema has what histories write to: rows that outgrow the memory of decoding
// soon, a table for each writer whose shape changes, and the journal. What a transaction
// writes into the journal is kept or rolled back with the rows that it tells of.
const historySchema = `
	CREATE TABLE items (id int PRIMARY KEY, mark int, note text);
	ALTER TABLE items ALTER note SET STORAGE PLAIN;
	CREATE TABLE journal (xid xid8, key text)`

// historian writes transactions of random statements, in savepoints of random depth.
type historian struct {
	conn   *pgx.Conn
	rng    *rand.Rand
	writer int
	// shapes allows changes of the shape of the writer's own table; extra tells whether it
	// has its second column.
	shapes, extra bool
	sql           []string
	mark          int
	names         int
}

// write commits or rolls back one history.
func (h *historian) write(ctx context.Context, mark int) error {
	h.mark, h.sql, h.names = mark, []string{"BEGIN"}, 0
	before := h.extra
	h.statements(0)
	end := "COMMIT"
	if h.rng.IntN(5) == 0 {
		end, h.extra = "ROLLBACK", before
	}
	h.sql = append(h.sql, end)
	for len(h.sql) > 0 {
		n := min(1+h.rng.IntN(8), len(h.sql))
		if _, err := h.conn.PgConn().Exec(ctx, strings.Join(h.sql[:n], ";\n")).ReadAll(); err != nil {
			return fmt.Errorf("%w in:\n%s", err, strings.Join(h.sql, ";\n"))
		}
		h.sql = h.sql[n:]
	}
	return nil
}

func (h *historian) statements(depth int) {
	for range 1 + h.rng.IntN(7) {
		switch n := h.rng.IntN(20); {
		case n < 6 && depth < 5:
			h.savepoint(depth)
		case n == 6:
			// The block's subtransaction is rolled back.
			h.sql = append(h.sql, "DO $$ BEGIN "+h.change()+"; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END $$")
		case n == 7:
			h.sql = append(h.sql, "DO $$ BEGIN "+h.change()+"; EXCEPTION WHEN OTHERS THEN NULL; END $$")
		case n == 8:
			h.sql = append(h.sql, fmt.Sprintf("SELECT pg_logical_emit_message(true, 'cache.purge', '{\"keys\": [\"m:%d:%d\"]}')", h.mark, h.rng.IntN(4)))
		case n == 9 && h.shapes && h.rng.IntN(8) == 0:
			h.reshape()
		case n < 12:
			h.sql = append(h.sql, h.own())
		default:
			h.sql = append(h.sql, h.change())
		}
	}
}

func (h *historian) savepoint(depth int) {
	h.names++
	name := fmt.Sprintf("s%d", h.names)
	before := h.extra
	h.sql = append(h.sql, "SAVEPOINT "+name)
	h.statements(depth + 1)
	switch h.rng.IntN(5) {
	case 0, 1:
		h.sql = append(h.sql, "ROLLBACK TO "+name)
		h.extra = before
		if h.rng.IntN(2) == 0 {
			h.statements(depth + 1) // in the savepoint that is begun anew
		}
	case 2, 3:
		h.sql = append(h.sql, "RELEASE "+name)
	}
}

// row is one of the writer's own: transactions of several do not wait for each other.
func (h *historian) row() int { return 1000*h.writer + h.rng.IntN(30) }

// note is large, and not compressed.
func (h *historian) note() string {
	return fmt.Sprintf("repeat('%c', %d)", 'a'+h.rng.IntN(26), 500+h.rng.IntN(1500))
}

// change is a statement that also writes into the journal what it did.
func (h *historian) change() string {
	journal := func(sql, keys string) string {
		return "WITH c AS (" + sql + " RETURNING id) INSERT INTO journal SELECT pg_current_xact_id(), " + keys + " FROM c"
	}
	key := fmt.Sprintf("'h:%d:' || id", h.mark)
	id := h.row()
	switch h.rng.IntN(6) {
	case 0:
		return journal(fmt.Sprintf("DELETE FROM items WHERE id = %d", id), "'d:' || id")
	case 1:
		return journal(fmt.Sprintf("UPDATE items SET mark = %d, note = %s WHERE id BETWEEN %d AND %d", h.mark, h.note(), id, id+h.rng.IntN(10)), key)
	case 2:
		to := id + 100
		return journal(fmt.Sprintf("UPDATE items SET mark = %d, id = %d WHERE id = %d AND NOT EXISTS (SELECT FROM items WHERE id = %[2]d)", h.mark, to, id),
			fmt.Sprintf("unnest(ARRAY['h:%[1]d:%[2]d', 'h:%[1]d:%[3]d'])", h.mark, id, to))
	default:
		return journal(fmt.Sprintf("INSERT INTO items VALUES (%d, %d, %s) ON CONFLICT (id) DO UPDATE SET mark = %[2]d, note = excluded.note", id, h.mark, h.note()), key)
	}
}

// own changes a row of the writer's own table.
func (h *historian) own() string {
	return fmt.Sprintf("INSERT INTO own_%d (id) VALUES (%d) ON CONFLICT (id) DO UPDATE SET id = excluded.id", h.writer, h.rng.IntN(5))
}

// reshape adds or drops a column that a rule reads.
func (h *historian) reshape() {
	if h.extra = !h.extra; h.extra {
		h.sql = append(h.sql, fmt.Sprintf("ALTER TABLE own_%d ADD COLUMN extra text DEFAULT 'e'", h.writer), h.own())
		return
	}
	h.sql = append(h.sql, fmt.Sprintf("ALTER TABLE own_%d DROP COLUMN extra", h.writer), h.own())
}
