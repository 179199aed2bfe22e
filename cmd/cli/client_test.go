package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// command runs a command as a process would, without a configuration file.
func command(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	t.Chdir(t.TempDir())
	var out, errs bytes.Buffer
	code = Main(args, "test", bytes.NewReader(nil), &out, &errs)
	return code, errs.String()
}

// TestTheTokenFollowsNoRedirect: another port of this machine may be another user's.
func TestTheTokenFollowsNoRedirect(t *testing.T) {
	var leaked []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = append(leaked, r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{}`))
	}))
	defer other.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		daemon := httptest.NewServer(http.RedirectHandler(other.URL+"/api/v1/pause", code))
		t.Setenv("WALPURGE_TOKEN", "open-sesame")
		for _, args := range [][]string{{"pause", "--sink", "edge"}, {"status"}, {"parked", "list"}, {"tail"}} {
			exit, errs := command(t, append(args, "--addr", daemon.URL)...)
			require.NotZero(t, exit)
			require.Contains(t, errs, "it redirects")
			require.NotContains(t, errs, "sesame")
		}
		daemon.Close()
	}
	require.Empty(t, leaked)
}

// TestTheTokenTakesNoProxy runs in a process of its own: the environment's proxy is read once, and is never taken for
// addresses of this machine.
func TestTheTokenTakesNoProxy(t *testing.T) {
	if os.Getenv("WALPURGE_TEST_PROXIED") != "" {
		exit, _ := command(t, "pause", "--sink", "edge", "--insecure", "--addr", "http://walpurge.invalid:7468")
		require.NotZero(t, exit)
		return
	}
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String()+" "+r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{}`))
	}))
	defer proxy.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheTokenTakesNoProxy$", "-test.count=1")
	child.Env = append(os.Environ(), "WALPURGE_TEST_PROXIED=1", "WALPURGE_TOKEN=open-sesame", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "ALL_PROXY="+proxy.URL)
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, asked)
}

func TestTheTokenTravelsInTheClearOnThisMachineOnly(t *testing.T) {
	t.Setenv("WALPURGE_TOKEN", "open-sesame")
	for addr, want := range map[string]string{
		"http://10.255.255.1:7468":           "the token would go to 10.255.255.1:7468 by plain HTTP",
		"walpurge.invalid:7468":              "the token would go to walpurge.invalid:7468 by plain HTTP",
		"http://localhost.invalid":           "by plain HTTP",
		"http://127.0.0.1.nip.invalid:7468":  "by plain HTTP",
		"http://0x7f000001.invalid":          "by plain HTTP",
		"http://user:open-sesame@127.0.0.1":  "--addr has a user",
		"ftp://127.0.0.1":                    "--addr is not an address",
		"http://":                            "--addr is not an address",
		"http://127.0.0.1:7468:open-sesame/": "--addr is not an address",
	} {
		exit, errs := command(t, "status", "--addr", addr)
		require.Equal(t, 2, exit, addr)
		require.Contains(t, errs, want, addr)
		require.NotContains(t, errs, "sesame", addr)
	}
	for _, args := range [][]string{{"--addr", "http://[::1]:1"}, {"--addr", "localhost:1"}, {"--addr", "127.0.0.1:1"}, {"--addr", "https://walpurge.invalid"}, {"--insecure", "--addr", "http://walpurge.invalid"}} {
		exit, errs := command(t, append([]string{"status"}, args...)...)
		require.Equal(t, 1, exit, errs)
		require.Contains(t, errs, "no daemon answers at")
	}
}
