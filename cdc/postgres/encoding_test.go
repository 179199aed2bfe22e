package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// texts is a handler that keeps what rules would see: of each row the table, and its values, and
// of each message its content.
type texts struct {
	sinkhole
	seen     sync.Mutex
	rows     []string
	messages []string
}

func (h *texts) Change(_ context.Context, _ *cdc.Txn, c *cdc.Change) error {
	row := c.Rel.String()
	for i, v := range c.New {
		switch {
		case !v.Known():
			row += fmt.Sprintf(" %s unknown", c.Rel.Columns[i].Name)
		default:
			row += fmt.Sprintf(" %s=%q", c.Rel.Columns[i].Name, v.Data)
		}
	}
	h.seen.Lock()
	defer h.seen.Unlock()
	h.rows = append(h.rows, row)
	return nil
}

func (h *texts) Message(_ context.Context, _ *cdc.Txn, _ string, content []byte) error {
	h.seen.Lock()
	defer h.seen.Unlock()
	h.messages = append(h.messages, string(content))
	return nil
}

// saw reports whether a row has come.
func (h *texts) saw(row string) bool {
	h.seen.Lock()
	defer h.seen.Unlock()
	for _, r := range h.rows {
		if r == row {
			return true
		}
	}
	return false
}

func (h *texts) heard(message string) bool {
	h.seen.Lock()
	defer h.seen.Unlock()
	for _, m := range h.messages {
		if m == message {
			return true
		}
	}
	return false
}

// database is one of another encoding on the same server.
func (s *server) database(encoding string) *server {
	s.t.Helper()
	name := "in_" + encoding
	s.exec(fmt.Sprintf("CREATE DATABASE %q ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", name, encoding))
	out := &server{t: s.t, pg: s.pg, cfg: DefaultConfig("e_" + encodingName(encoding))}
	out.cfg.URL, out.cfg.Heartbeat = s.pg.URL(name), 200*time.Millisecond
	conn, err := out.cfg.Connect(s.t.Context())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	out.conn = conn
	return out
}

func encodingName(encoding string) string {
	b := []byte(encoding)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// TestEncodings: in each database, a table and a message with characters beyond ASCII, then what has
// no counterpart in UTF-8, and then what follows it.
func TestEncodings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, c := range []struct {
		encoding, text string
		// bad are bytes that PostgreSQL stores and cannot convert.
		bad string
	}{
		{"LATIN1", "größe", ""},
		{"LATIN9", "größe €", ""},
		{"WIN1252", "größe €", ""},
		{"KOI8R", "размер", ""},
		{"EUC_JP", "大きさ", `\xfcfc`},
		{"EUC_KR", "크기", ""},
		{"EUC_CN", "大小", `\xf8f8`},
		{"WIN1253", "μέγεθος", `\xd2`},
		{"UTF8", "größe 大きさ", ""},
	} {
		t.Run(c.encoding, func(t *testing.T) {
			db := s.database(c.encoding)
			db.t = t
			db.exec(fmt.Sprintf("CREATE TABLE public.%q (id int PRIMARY KEY, %q text)", c.text, c.text))
			db.watches = Watch{Tables: public(c.text)}
			require.NoError(t, db.cfg.Ready(t.Context(), db.conn, db.watches.Tables, db.watches))
			h := &texts{}
			r := db.runTexts(h)
			table := quote("public", c.text)
			db.exec(fmt.Sprintf("INSERT INTO %s VALUES (1, $1)", table), c.text)
			db.exec("SELECT pg_logical_emit_message(true, 'app', $1)", `{"keys": ["`+c.text+`"]}`)
			row := func(id, value string) string {
				return fmt.Sprintf("public.%s id=%q %s%s", c.text, id, c.text, value)
			}
			eventually(t, 30*time.Second, func() bool {
				return h.saw(row("1", fmt.Sprintf("=%q", c.text))) && h.heard(`{"keys": ["`+c.text+`"]}`)
			}, "row and message come in UTF-8")
			if c.bad != "" {
				db.exec(fmt.Sprintf("INSERT INTO %s VALUES (2, convert_from('%s'::bytea, '%s'))", table, c.bad, c.encoding))
				db.exec(fmt.Sprintf("INSERT INTO %s VALUES (3, 'plain')", table))
				eventually(t, 30*time.Second, func() bool { return h.saw(row("2", " unknown")) && h.saw(row("3", `="plain"`)) }, "the value is unknown, and stops nothing")
				// Once that is confirmed, values are read again.
				n := 10
				eventually(t, 60*time.Second, func() bool {
					n++
					db.exec(fmt.Sprintf("INSERT INTO %s VALUES ($1, $2)", table), n, c.text)
					time.Sleep(100 * time.Millisecond)
					return h.saw(row(fmt.Sprint(n), fmt.Sprintf("=%q", c.text)))
				}, "values are read again")
			}
			r.end(t)
		})
	}
	t.Run("SQL_ASCII", func(t *testing.T) {
		db := s.database("SQL_ASCII")
		db.t = t
		db.exec("CREATE TABLE public.items (id int PRIMARY KEY, note text)")
		db.exec(`INSERT INTO public.items VALUES (1, convert_from('\xe9'::bytea, 'SQL_ASCII'))`)
		h := &texts{}
		db.runTexts(h)
		db.exec(`INSERT INTO public.items VALUES (2, convert_from('\x63e974e9'::bytea, 'SQL_ASCII')), (3, 'plain')`)
		eventually(t, 30*time.Second, func() bool {
			return h.saw(`public.items id="2" note="c\xe9t\xe9"`) && h.saw(`public.items id="3" note="plain"`)
		}, "values are the bytes that were written")
		change, err := db.cfg.ReadChange(t.Context(), db.conn, public("items")[0], "id = 1", cdc.Update)
		require.NoError(t, err)
		require.Equal(t, "\xe9", string(change.New[1].Data))
	})
}

// runTexts is run for a handler of its own.
func (s *server) runTexts(h *texts) *running {
	s.t.Helper()
	return s.runHandler(&h.sinkhole, h, Streaming)
}
