package integration

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/status"
)

// applicationTable is a table as an application might have made it. %s is its name.
type applicationTable struct {
	name string
	ddl  string
}

var applicationTables = []applicationTable{
	{"by_key", `CREATE TABLE %[1]s (id int PRIMARY KEY, code text NOT NULL, note text, spare int)`},
	{"by_index", `CREATE TABLE %[1]s (id int NOT NULL, code text NOT NULL, note text, spare int);
		CREATE UNIQUE INDEX %[1]s_id ON %[1]s (id); ALTER TABLE %[1]s REPLICA IDENTITY USING INDEX %[1]s_id`},
	{"by_row", `CREATE TABLE %[1]s (id int, code text NOT NULL, note text, spare int); ALTER TABLE %[1]s REPLICA IDENTITY FULL`},
	{"by_part", `CREATE TABLE %[1]s (id int, code text NOT NULL, note text, spare int, PRIMARY KEY (id)) PARTITION BY HASH (id);
		CREATE TABLE %[1]s_0 PARTITION OF %[1]s FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE %[1]s_1 PARTITION OF %[1]s FOR VALUES WITH (MODULUS 2, REMAINDER 1)`},
}

// applicationDDL is what developers do to a table that is published.
var applicationDDL = []string{
	"ALTER TABLE %s ADD COLUMN colour text NOT NULL DEFAULT 'red'",
	"ALTER TABLE %s DROP COLUMN spare",
	"ALTER TABLE %s ALTER COLUMN note TYPE varchar(100)",
	"ALTER TABLE %s RENAME COLUMN note TO remark",
	"ALTER TABLE %s ALTER COLUMN code DROP NOT NULL",
	"TRUNCATE %s",
	"ALTER TABLE %s RENAME COLUMN code TO label", // rules name it: its own values are lost, nothing else
}

// rulesFor watches the tables of one phase, and products all the time.
func rulesFor(phase string) string {
	var b strings.Builder
	b.WriteString(catalog)
	for _, table := range applicationTables {
		name := phase + "_" + table.name
		fmt.Fprintf(&b, "  - {name: %[1]s, table: public.%[1]s, keys: [\"%[1]s:{id}\", \"%[1]s:code:{code}\"], unknown: {keys: [\"%[1]s:all\"], covers: true}, sinks: [cache]}\n", name)
	}
	return b.String()
}

// TestApplicationIsNotDisturbed acts as the application on published tables of
// every identity: after a setup, and after reloads that add tables.
func TestApplicationIsNotDisturbed(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	phases := []string{"setup", "hangup", "post"}
	for _, phase := range phases {
		for _, table := range applicationTables {
			r.exec(fmt.Sprintf(table.ddl, phase+"_"+table.name))
		}
	}
	r.exec("CREATE TABLE nokey (id int, note text); CREATE TABLE hidden (id int PRIMARY KEY, note text); ALTER TABLE hidden REPLICA IDENTITY NOTHING")
	r.write("rules/catalog.yaml", rulesFor("setup"))
	r.config(freeAddr(t))
	require.Zero(t, r.call("setup").code)
	d := r.start()
	d.wait(r.lsn(), 30*time.Second) // the first start on a slot made before flushes
	for _, phase := range phases {
		t.Run(phase, func(t *testing.T) {
			r.t, d.t = t, t
			r.write("rules/catalog.yaml", rulesFor(phase))
			switch phase {
			case "hangup":
				d.hangup("msg=reloaded")
			case "post":
				code, body := d.post("/-/reload")
				require.Equal(t, http.StatusOK, code, body)
			}
			for _, table := range applicationTables {
				require.Contains(t, r.published(), "public."+phase+"_"+table.name)
				r.live(d, phase+"_"+table.name)
			}
			r.refused(d, phase)
			require.Equal(t, "streaming", d.status().Reader.State)
		})
	}
	r.t, d.t = t, t
	// The tables of the last phase are gone and their rules still there: the
	// others' purges must survive a restart of the server all the same.
	r.restart()
	r.fill([]string{"product:1"})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	end, err := cdc.ParseLSN(r.lsn())
	require.NoError(r.t, err)
	eventually(r.t, 30*time.Second, func() bool {
		return !slices.ContainsFunc(d.status().Watermarks, func(w status.Watermark) bool { return w.Stage == "purged" && w.LSN < end })
	}, "every sink has purged")
	require.Empty(t, r.held("product:1"))
	d.logged("rules watch tables that are gone")
}

// live writes to a table between changes of its shape, as its application does.
func (r *rig) live(d *daemon, table string) {
	r.t.Helper()
	id := 0
	code := "code"
	write := func() {
		r.t.Helper()
		id++
		key, moved := fmt.Sprintf("%s:%d", table, id), fmt.Sprintf("%s:%d", table, id+1000)
		for _, s := range []struct {
			sql  string
			gone []string
		}{
			{fmt.Sprintf("INSERT INTO %s (id, %s) VALUES (%d, 'c%d')", table, code, id, id), []string{key}},
			{fmt.Sprintf("UPDATE %s SET %s = 'd%d' WHERE id = %d", table, code, id, id), []string{key}},
			{fmt.Sprintf("UPDATE %s SET id = id + 1000 WHERE id = %d", table, id), []string{key, moved}},
			{fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id+1000), []string{moved}},
		} {
			r.fill(s.gone)
			r.exec(s.sql)
			// Tables of rules that were dropped are problems, for which wait answers 409.
			r.gone(s.sql, s.gone...)
		}
		r.exec(fmt.Sprintf("INSERT INTO %s (id, %s) VALUES (%d, 'e')", table, code, id+2000))
	}
	write()
	for _, ddl := range applicationDDL {
		r.exec(fmt.Sprintf(ddl, table))
		if strings.Contains(ddl, "TO label") {
			code = "label"
		}
		write()
	}
	r.fill([]string{table + ":all"})
	write()
	r.gone("a column that is gone takes the rule's unknown", table+":all")
	r.exec("DROP TABLE " + table)
}

// refused asks for tables without a usable identity: none may be added, and
// their application goes on.
func (r *rig) refused(d *daemon, phase string) {
	r.t.Helper()
	for _, table := range []string{"nokey", "hidden"} {
		before := r.published()
		r.write("rules/catalog.yaml", catalog+fmt.Sprintf("  - {name: %[1]s, table: public.%[1]s, keys: [\"%[1]s:{id}\"]}\n", table))
		code, body := d.post("/-/reload")
		require.Equal(r.t, http.StatusUnprocessableEntity, code, body)
		require.Contains(r.t, body, "no replica identity that can be used")
		require.Equal(r.t, before, r.published())
		for _, sql := range []string{"INSERT INTO %s VALUES (1, 'a')", "UPDATE %s SET note = 'b'", "DELETE FROM %s", "TRUNCATE %s"} {
			r.exec(fmt.Sprintf(sql, table))
		}
	}
	r.write("rules/catalog.yaml", rulesFor(phase))
}

// TestWhyTablesAreRefused publishes by hand what the daemon refuses, and sees
// the application fail.
func TestWhyTablesAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + `
		CREATE TABLE nokey (id int); CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
		CREATE TABLE hidden (id int PRIMARY KEY); ALTER TABLE hidden REPLICA IDENTITY NOTHING;
		CREATE TABLE parts (id int) PARTITION BY RANGE (id); ALTER TABLE parts REPLICA IDENTITY FULL;
		CREATE TABLE parts_1 PARTITION OF parts DEFAULT`})
	for _, table := range []string{"nokey", "deferred", "hidden", "parts"} {
		r.exec("INSERT INTO " + table + " VALUES (1)")
		r.exec("CREATE PUBLICATION walpurge_app FOR TABLE " + table + " WITH (publish_via_partition_root = true)")
		_, err := r.db.Exec(t.Context(), "UPDATE "+table+" SET id = 2")
		require.ErrorContains(t, err, "because it does not have a replica identity", table)
		// What is published already is told of, too.
		r.config(freeAddr(t))
		r.write("rules/catalog.yaml", strings.Replace(catalog, "public.categories", "public."+table, 1))
		o := r.call("check")
		require.Equal(t, 1, o.code)
		require.True(t, slices.ContainsFunc(lines(o.stdout), func(l string) bool {
			return strings.HasPrefix(l, "table public."+table+": rows of ")
		}), o.stdout)
		r.exec("DROP PUBLICATION walpurge_app")
	}
}

// post calls the daemon as an operator would, with a body or none.
func (d *daemon) post(path string, body ...string) (int, string) {
	d.t.Helper()
	resp, err := http.Post("http://"+d.addr+path, "application/json", strings.NewReader(strings.Join(body, "")))
	require.NoError(d.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	return resp.StatusCode, string(answer)
}

// hangup sends SIGHUP and waits for one more line with the text in the log.
func (d *daemon) hangup(text string) {
	d.t.Helper()
	before := strings.Count(d.logs.String(), text)
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGHUP))
	eventually(d.t, 30*time.Second, func() bool { return strings.Count(d.logs.String(), text) > before }, "the log says "+text)
}
