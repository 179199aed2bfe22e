package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

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
	timer := time.AfterFunc(90*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(began)}
}

// call runs a command on the rig's file.
func (r *rig) call(name string, args ...string) outcome {
	r.t.Helper()
	return call(r.t, nil, append([]string{name, "-c", r.path("walpurge.yaml")}, args...)...)
}

// edit changes a file of the rig: pairs of an old text, which must be there, and
// a new one.
func (r *rig) edit(name string, oldnew ...string) {
	r.t.Helper()
	text := r.read(name)
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(r.t, text, oldnew[i])
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	r.write(name, text)
}

func (r *rig) read(name string) string {
	r.t.Helper()
	raw, err := os.ReadFile(r.path(name))
	require.NoError(r.t, err)
	return string(raw)
}

// reset writes good files and removes what the case before left behind.
func (r *rig) reset() {
	r.t.Helper()
	require.NoError(r.t, os.RemoveAll(r.path("data")))
	r.exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
	r.exec("DROP PUBLICATION IF EXISTS walpurge_app")
	r.write("rules/catalog.yaml", catalog)
	r.config(freeAddr(r.t))
}

// freeAddr is an address that no client's socket can take meanwhile, either.
func freeAddr(t *testing.T) string {
	port, err := harness.FreePort()
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// guard makes a role that needs a password over TCP.
func (r *rig) guard(role, password string) {
	r.t.Helper()
	r.exec(fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD '%s'", role, password))
	path := filepath.Join(r.pg.DataDir(), "pg_hba.conf")
	old, err := os.ReadFile(path)
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(path, fmt.Appendf(nil, "host all %s 127.0.0.1/32 scram-sha-256\n%s", role, old), 0))
	r.exec("SELECT pg_reload_conf()")
}

// restart starts the server again, and the application's connections.
func (r *rig) restart() {
	r.t.Helper()
	require.NoError(r.t, r.pg.Restart(r.t.Context()))
	r.db.Reset()
}

// published lists the tables of the pipeline's publication.
func (r *rig) published() []string {
	r.t.Helper()
	rows, err := r.db.Query(r.t.Context(), "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'walpurge_app' ORDER BY 1")
	require.NoError(r.t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(r.t, err)
	return names
}

// made counts the pipeline's publications and slots in the database.
func (r *rig) made() (publications, slots int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), `SELECT (SELECT count(*) FROM pg_publication WHERE pubname LIKE 'walpurge%'),
		(SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'walpurge%')`).Scan(&publications, &slots))
	return publications, slots
}

// untouched makes sure that nothing was created.
func (r *rig) untouched() {
	r.t.Helper()
	publications, slots := r.made()
	require.Zero(r.t, publications, "a publication was left")
	require.Zero(r.t, slots, "a slot was left")
	require.NoDirExists(r.t, r.path("data"), "data_dir was made")
}

// lines cuts a text into its lines.
func lines(s string) []string {
	s = strings.TrimSuffix(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// launchFile runs the daemon on a text of its own.
func (r *rig) launchFile(text string) *daemon {
	r.t.Helper()
	_, listen, found := strings.Cut(text, `http: {listen: "`)
	require.True(r.t, found)
	addr, _, _ := strings.Cut(listen, `"`)
	r.write("walpurge.yaml", text)
	return r.spawn(addr, r.path("walpurge.yaml"), nil)
}
