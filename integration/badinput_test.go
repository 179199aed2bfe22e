package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// secret is a password that must turn up nowhere.
const secret = "p4ss-never-shown"

// outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// call runs a command to its end.
func call(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	cmd := command(env, args...)
	var stdout, stderr logs
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(began)}
}

// edit changes a file of the rig; every old text must be there.
func (r *rig) edit(name string, oldnew ...string) {
	r.t.Helper()
	raw, err := os.ReadFile(r.path(name))
	require.NoError(r.t, err)
	text := string(raw)
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(r.t, text, oldnew[i])
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	r.write(name, text)
}

// reset writes good files again and removes what a case left behind.
func (r *rig) reset() {
	r.t.Helper()
	require.NoError(r.t, os.RemoveAll(r.path("data")))
	r.write("rules/catalog.yaml", catalog)
	r.write("token", edgeToken+"\n")
	port, err := freeAddr()
	require.NoError(r.t, err)
	r.config(port)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// untouched makes sure that nothing was created.
func (r *rig) untouched() {
	r.t.Helper()
	var pubs, slots []string
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT coalesce(array_agg(pubname::text), '{}') FROM pg_publication WHERE pubname = 'walpurge_app'").Scan(&pubs))
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT coalesce(array_agg(slot_name::text), '{}') FROM pg_replication_slots WHERE slot_name = 'walpurge_app'").Scan(&slots))
	require.Empty(r.t, pubs, "a publication was left")
	require.Empty(r.t, slots, "a slot was left")
	_, err := os.Stat(r.path("data"))
	require.ErrorIs(r.t, err, os.ErrNotExist, "data_dir was made")
}

// fault is one thing that is wrong, and what is to be said about it.
type fault struct {
	name  string
	break_ func(r *rig)
	mend  func(r *rig)
	env   []string
	// lines are what run prints, without "walpurge: "; check prints the same,
	// unless it says something else.
	lines []string
	check []string
	code  int
	// checkCode is code unless set; -1: check finds nothing.
	checkCode int
}

func (r *rig) fill2(s string) string {
	addr := strings.TrimPrefix(r.pg.URL("app"), "postgres://postgres@")
	return strings.NewReplacer("{dir}", r.dir, "{pg}", strings.SplitN(addr, "/", 2)[0]).Replace(s)
}

func TestX(t *testing.T) {
	r := newRig(t, rigOptions{})
	hba := filepath.Join(r.pg.DataDir(), "pg_hba.conf")
	old, err := os.ReadFile(hba)
	require.NoError(t, err)
	f, err := os.OpenFile(hba, os.O_WRONLY|os.O_TRUNC, 0)
	require.NoError(t, err)
	_, err = f.WriteString("host all guarded 127.0.0.1/32 scram-sha-256\n" + string(old))
	require.NoError(t, err)
	f.Close()
	r.exec("CREATE ROLE guarded LOGIN REPLICATION PASSWORD '" + secret + "x'")
	r.exec("CREATE ROLE weak LOGIN")
	r.exec("CREATE ROLE helper LOGIN REPLICATION")
	r.exec("SELECT pg_reload_conf()")
	r.exec("CREATE TABLE nokey (id int); CREATE VIEW shelf AS SELECT * FROM products; CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY)")
	r.exec("CREATE TABLE orders (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
	r.exec("CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE)")
	r.exec("CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day); ALTER TABLE parts REPLICA IDENTITY FULL; CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
	user := func(name string) func(r *rig) {
		return func(r *rig) { r.edit("walpurge.yaml", "postgres://postgres@", "postgres://"+name+":"+secret+"@") }
	}
	rule := func(table string) func(r *rig) {
		return func(r *rig) { r.edit("rules/catalog.yaml", "public.categories", table) }
	}
	yaml := func(oldnew ...string) func(r *rig) { return func(r *rig) { r.edit("walpurge.yaml", oldnew...) } }
	cases := []fault{
		{name: "unknown key", break_: yaml("data_dir:", "data_dri:")},
		{name: "repeated key", break_: yaml("pipeline: app", "pipeline: app\npipeline: app")},
		{name: "missing var", break_: yaml("pipeline: app", "pipeline: ${NO_SUCH_VARIABLE}")},
		{name: "missing rules", break_: yaml("rules/*.yaml", "rulez/*.yaml")},
		{name: "broken url", break_: yaml("postgres://postgres@", "postgres://postgres:" + secret + "/%zz#@")},
		{name: "missing table", break_: rule("public.category")},
		{name: "missing column", break_: func(r *rig) { r.edit("rules/catalog.yaml", "{slug}", "{slgu}") }},
		{name: "view", break_: rule("public.shelf")},
		{name: "partition", break_: rule("public.orders_1")},
		{name: "unlogged", break_: rule("public.scratch")},
		{name: "nokey", break_: rule("public.nokey")},
		{name: "deferrable", break_: rule("public.deferred")},
		{name: "leaf", break_: rule("public.parts")},
		{name: "weak", break_: user("weak")},
		{name: "password", break_: user("guarded")},
		{name: "nouser", break_: user("nobody")},
		{name: "notowner", break_: user("helper")},
		{name: "database", break_: yaml("/app?", "/ap?")},
		{name: "unmanaged", break_: yaml("postgres:", "postgres:\n  manage: false")},
		{name: "decoding", break_: func(r *rig) { r.exec("SELECT pg_create_logical_replication_slot('walpurge_app', 'test_decoding')") }, mend: func(r *rig) { r.exec("SELECT pg_drop_replication_slot('walpurge_app')") }},
		{name: "noroot", break_: func(r *rig) { r.exec("CREATE PUBLICATION walpurge_app FOR TABLE products WITH (publish='insert')") }, mend: func(r *rig) { r.exec("DROP PUBLICATION walpurge_app") }},
		{name: "filter", break_: func(r *rig) { r.exec("CREATE PUBLICATION walpurge_app FOR TABLE products WHERE (id>3) WITH (publish_via_partition_root=true)") }, mend: func(r *rig) { r.exec("DROP PUBLICATION walpurge_app") }},
		{name: "unflushable", break_: yaml("    flush: {everything: true}\n", "")},
		{name: "filedir", break_: yaml("/data\n", "/token/data\n")},
		{name: "procdir", break_: yaml("data_dir: " + r.path("data"), "data_dir: /proc/walpurge")},
		{name: "token", break_: yaml(r.path("token"), r.path("nothing"))},
		{name: "port", break_: func(r *rig) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			r.config(l.Addr().String())
		}},
	}
	for _, c := range cases {
		r.reset()
		c.break_(r)
		for _, cmd := range []string{"run", "check"} {
			o := call(t, c.env, cmd, "-c", r.path("walpurge.yaml"))
			fmt.Printf("--- %s %s: %d %s\n%s%s", c.name, cmd, o.code, o.took, o.stdout, o.stderr)
		}
		if c.mend != nil {
			c.mend(r)
		}
		var n int
		r.db.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM pg_publication)+(SELECT count(*) FROM pg_replication_slots)").Scan(&n)
		_, err := os.Stat(r.path("data"))
		fmt.Println("left:", n, errors.Is(err, os.ErrNotExist))
		r.exec("DROP PUBLICATION IF EXISTS walpurge_app")
		r.exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
	}
}
