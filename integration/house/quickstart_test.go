package house

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every command of docs/quickstart.md works as written.
func TestQuickstart(t *testing.T) {
	s := follow(t, "docs/quickstart.md", "")
	u, err := url.Parse(s.cacheURL)
	require.NoError(t, err)
	cli, err := exec.LookPath("valkey-cli")
	if err != nil {
		cli, err = exec.LookPath("redis-cli")
	}
	require.NoError(t, err, "apt-get install valkey-tools, or redis-tools")
	s.write("path/valkey-cli", "#!/bin/sh\nexec '"+cli+"' \"$@\"\n")
	require.NoError(t, os.Chmod(filepath.Join(s.dir, "path/valkey-cli"), 0o755))
	s.env = append(s.env, "DATABASE_URL="+s.pg.URL("shop"), "VALKEY_URL=redis://"+u.Host+"/0")

	fine := func() string {
		t.Helper()
		out, code := s.shell(s.next("sh"))
		require.Equal(t, 0, code, out)
		return out
	}
	s.next("sh") // the variables, which name this test's servers instead
	s.write("shop.sql", s.next("sql"))
	fine()
	s.write("walpurge.yaml", s.next("yaml")+"http: {listen: "+s.addr+"}\n")
	s.write("rules/shop.yaml", s.next("yaml"))
	s.write("tests/shop_test.yaml", s.next("yaml"))
	require.Contains(t, fine(), "fine: pipeline quickstart, 1 sink")

	// As a service, whose manager is told when it is ready.
	m := newManager(t)
	s.env = append(s.env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	stop := s.start(s.next("sh"))
	m.hears("READY=1")
	require.Equal(t, http.StatusOK, s.get("/-/ready").StatusCode)
	m.hears("WATCHDOG=1")
	require.Regexp(t, `(?m)^(\(integer\) )?0$`, fine())
	require.Contains(t, fine(), "article:1")
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	m.hears("STOPPING=1")
	require.NoError(t, <-ended)
	require.Contains(t, fine(), "dropped slot walpurge_quickstart")
	require.Empty(t, s.blocks)
}
