package house

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

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
	require.Contains(t, fine(), "fine: pipeline quickstart, 1 sinks")

	stop := s.start(s.next("sh"))
	require.Eventually(t, func() bool { return s.listens() }, 30*time.Second, 20*time.Millisecond)
	s.streams()
	require.Regexp(t, `(?m)^(\(integer\) )?0$`, fine())
	require.Contains(t, fine(), "article:1")
	require.NoError(t, stop())
	require.Contains(t, fine(), "dropped slot walpurge_quickstart")
	require.Empty(t, s.blocks)
}

// listens says whether the daemon's listener is open.
func (s *steps) listens() bool {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// streams waits until the daemon does.
func (s *steps) streams() {
	s.Helper()
	require.Eventually(s, func() bool { return s.get("/-/streaming").StatusCode == 200 }, 30*time.Second, 50*time.Millisecond)
}
