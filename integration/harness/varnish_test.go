package harness

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVarnish(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("App", r.URL.Path) }))
	defer app.Close()
	v, err := StartVarnish(testContext(t), VarnishConfig{
		VCL:     "vcl 4.1;\nbackend default { " + documentedBackend + " }\n",
		Backend: app.Listener.Addr().String(),
	})
	require.NoError(t, err)
	pids := family(t, v.PID())
	require.Greater(t, len(pids), 1, "the cache is a child of the manager")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+v.Addr()+"/a", nil)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "/a", resp.Header.Get("App"))
	require.NoError(t, v.Close())
	require.NoError(t, v.Close())
	requireGone(t, pids)
	require.NoDirExists(t, v.dir)
}

func TestVarnishThatCannotStart(t *testing.T) {
	_, err := StartVarnish(testContext(t), VarnishConfig{VCL: "vcl 4.1;\nnonsense"})
	require.ErrorContains(t, err, "nonsense")
	_, err = StartVarnish(testContext(t), VarnishConfig{VCL: "vcl 4.1;\n", Backend: "127.0.0.1:1"})
	require.ErrorContains(t, err, "no backend")
}
