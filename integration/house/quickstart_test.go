package house

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every command of docs/quickstart.md works at the first try, as written.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	s := follow(t, "docs/quickstart.md", "")
	s.env = append(s.env, "DATABASE_URL="+s.pg.URL("shop"))
	s.begin()
	require.Contains(t, s.fine(), "\nlogical\n")
	s.write("shop.sql", s.next("sql"))
	s.fine()
	s.write("walpurge.yaml", s.next("yaml")+"http: {listen: "+s.addr+"}\n")
	s.write("rules/shop.yaml", s.next("yaml"))
	s.write("tests/shop_test.yaml", s.next("yaml"))
	out := s.fine()
	require.Contains(t, out, "2 passed, 0 failed\n")
	require.Contains(t, out, "fine: pipeline quickstart, 1 sink\n")

	// As a service, whose manager is told when it is ready.
	m := newManager(t)
	s.env = append(s.env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	stop := s.start(s.next("sh"))
	m.hears("READY=1")
	require.Equal(t, http.StatusOK, s.get("/-/ready").StatusCode)
	m.hears("WATCHDOG=1")
	require.Regexp(t, `(?m)^(\(integer\) )?0$`, s.fine())
	out = s.fine()
	require.Regexp(t, `(?m)^FRESH`, out)
	require.Contains(t, out, "article:1")
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	m.hears("STOPPING=1")
	require.NoError(t, <-ended)
	require.Contains(t, s.fine(), "dropped slot walpurge_quickstart")
	require.Empty(t, s.blocks)
}
