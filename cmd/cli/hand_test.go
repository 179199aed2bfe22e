package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// daemonFake answers a path with a document and remembers what it was asked.
type daemonFake struct {
	answers map[string]string
	status  int
	asked   []string
}

func (d *daemonFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.asked = append(d.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Host+" "+r.Header.Get("Authorization")+" "+string(body))
	if d.status != 0 {
		w.WriteHeader(d.status)
	}
	_, _ = io.WriteString(w, d.answers[r.URL.Path])
}

// talk runs a command against a fake daemon.
func talk(t *testing.T, d *daemonFake, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	srv := httptest.NewServer(d)
	defer srv.Close()
	t.Setenv("WALPURGE_ADDR", srv.URL)
	var out, errs bytes.Buffer
	code = Main(args, "test", bytes.NewReader(nil), &out, &errs)
	return code, out.String(), errs.String()
}

func TestStatusForPeople(t *testing.T) {
	code, out, _ := talk(t, &daemonFake{answers: map[string]string{"/api/v1/status": `{
		"summary": "STALE 4m10s at edge: throttled: HTTP 429, 42 messages waiting", "fresh": false, "pipeline": "shop",
		"reader": {"state": "streaming"},
		"watermarks": [{"stage": "received", "lsn": "0/16B3748", "lag_bytes": 0, "lag_seconds": 0.04},
			{"stage": "purged", "target": "edge", "lsn": "0/16A0000", "lag_bytes": 79688, "lag_seconds": 250.2}],
		"sinks": [{"name": "cache", "kind": "valkey", "state": "ok", "backlog": 0, "parked": 0, "lag_seconds": 0.1},
			{"name": "edge", "kind": "cloudflare", "state": "throttled", "error": "HTTP 429", "backlog": 42, "parked": 1, "lag_seconds": null}],
		"slot": {"name": "walpurge_shop", "state": "reserved", "retained_bytes": 1048576, "safe_bytes": 1073741824},
		"stream": {"bytes": 1536, "limit_bytes": 2147483648, "messages": 12, "replay_horizon_seconds": 3600}}`}}, "status")
	require.Equal(t, 1, code, "not fresh")
	require.Equal(t, `STALE 4m10s at edge: throttled: HTTP 429, 42 messages waiting

STAGE     TARGET  LSN        BEHIND    LAG
received          0/16B3748  0 B       0.0 s
purged    edge    0/16A0000  77.8 KiB  4m10s

SINK   KIND        STATE      WAITING  PARKED  LAG      ERROR
cache  valkey      ok         0        0       0.1 s    
edge   cloudflare  throttled  42       1       unknown  HTTP 429

reader streaming, slot walpurge_shop holds back 1.0 MiB, 1.0 GiB until it is lost
stream 1.5 KiB of 2.0 GiB, replays reach back 1h0m0s
`, out)
}

func TestParkedForPeople(t *testing.T) {
	code, out, _ := talk(t, &daemonFake{answers: map[string]string{"/api/v1/parked": `[{"id": 17, "sink": "edge", "parked_at": "2026-11-20T12:00:00Z",
		"lsn": "0/1", "error": "tag too long", "items": [{"rule": "product", "kind": "tag", "value": "a\u001b[2J"}]}]`}}, "parked", "list")
	require.Equal(t, 0, code)
	require.Equal(t, "17  edge  2026-11-20T12:00:00Z  tag too long\n    tag \"a\\x1b[2J\" (rule product)\n", out, "no escape sequence reaches the terminal")
}

func TestWhatCommandsAsk(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("s3cret\n"), 0o600))
	for _, c := range []struct {
		args  []string
		asked string
	}{
		{[]string{"purge", "--sink", "edge", "--tag", "a", "--tag", "b,c", "--supersede", "--token-file", token},
			`POST /api/v1/purge localhost Bearer s3cret {"sink":"edge","tags":["a","b,c"],"supersede":true}`},
		{[]string{"purge", "--sink", "cache", "--field", "products", "7", "--field", "a b", "", "--field", "h", "--", "-5"},
			`POST /api/v1/purge localhost  {"sink":"cache","fields":[{"key":"products","field":"7"},{"key":"a b","field":""},{"key":"h","field":"-5"}]}`},
		{[]string{"purge", "--sink", "cache", "--key", "\xff", "--key", "a"},
			`POST /api/v1/purge localhost  {"sink":"cache","keys":["a"],"base64":{"key":["/w=="]}}`},
		{[]string{"purge", "--sink", "s", "--key", "k", "--tag", "t", "--url", "u", "--url-prefix", "p", "--key-prefix", "q", "--generation", "g", "--all", "--yes", "--dry-run"},
			`POST /api/v1/purge localhost  {"sink":"s","keys":["k"],"tags":["t"],"urls":["u"],"url_prefixes":["p"],"key_prefixes":["q"],"generations":["g"],"all":true,"dry_run":true}`},
		{[]string{"replay", "--from", "0/1"}, `POST /api/v1/replay localhost  {"from":"0/1"}`},
		{[]string{"pause", "--sink", "edge"}, `POST /api/v1/pause localhost  {"sink":"edge"}`},
		{[]string{"parked", "retry", "17", "18"}, `POST /api/v1/parked localhost  {"action":"retry","ids":[17,18]}`},
		{[]string{"parked", "drop", "--all"}, `POST /api/v1/parked localhost  {"action":"drop","all":true}`},
		{[]string{"wait", "0/16B3748", "--sink", "edge", "--timeout", "1m"}, `GET /api/v1/wait?lsn=0%2F16B3748&sink=edge&timeout=1m0s localhost  `},
	} {
		d := &daemonFake{answers: map[string]string{"/api/v1/" + c.args[0]: "{}"}}
		code, _, stderr := talk(t, d, c.args...)
		require.Equal(t, 0, code, stderr)
		require.Equal(t, []string{c.asked}, d.asked)
	}
}

func TestAnswersBecomeExitCodes(t *testing.T) {
	for status, code := range map[int]int{400: 2, 404: 2, 401: 1, 409: 1, 503: 1, 504: 1} {
		d := &daemonFake{status: status, answers: map[string]string{"/api/v1/wait": `{"error": "because"}`}}
		got, _, stderr := talk(t, d, "wait", "0/1")
		require.Equal(t, code, got)
		require.Equal(t, "walpurge: because\n", stderr)
	}
	code, _, stderr := talk(t, &daemonFake{answers: map[string]string{"/api/v1/status": "<html>"}}, "status")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "is that a walpurge daemon?")
}

func TestNoDaemon(t *testing.T) {
	var out, errs bytes.Buffer
	code := Main([]string{"status", "--addr", "127.0.0.1:1"}, "test", bytes.NewReader(nil), &out, &errs)
	require.Equal(t, 1, code)
	require.Contains(t, errs.String(), "no daemon answers at http://127.0.0.1:1: ")
	require.Contains(t, errs.String(), "is it running? name its address with --addr")
}

func TestWrongCalls(t *testing.T) {
	for _, args := range [][]string{
		{"wait"}, {"wait", "nonsense"}, {"purge"}, {"purge", "--sink", "cache", "--field", "products"}, {"purge", "--sink", "cache", "products"}, {"pause"}, {"replay"}, {"replay", "--since", "1h", "--from", "0/1"},
		{"parked", "retry"}, {"parked", "retry", "x"}, {"parked", "drop", "1", "--all"}, {"parked", "nonsense"},
		{"status", "--config", filepath.Join(t.TempDir(), "missing.yaml")},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, 2, Main(args, "test", bytes.NewReader(nil), &out, &errs), "%v: %s", args, errs.String())
		require.NotEmpty(t, errs.String())
	}
}

func TestListenIsCalledOnLoopback(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:7468": "127.0.0.1:7468", ":7468": "127.0.0.1:7468", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", "10.0.0.5:9": "10.0.0.5:9",
	} {
		require.Equal(t, want, reachable(listen))
	}
}

func TestReload(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("s3cret\n"), 0o600))
	d := &daemonFake{answers: map[string]string{"/-/reload": `{"reloaded": true}`}}
	code, out, stderr := talk(t, d, "reload", "--token-file", token)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, "reloaded\n", out)
	require.Equal(t, []string{"POST /-/reload localhost Bearer s3cret {}"}, d.asked)

	d = &daemonFake{status: http.StatusUnprocessableEntity, answers: map[string]string{"/-/reload": `{"error": "walpurge.yaml: ` + "`http`" + ` changed, and that needs a restart"}`}}
	code, out, stderr = talk(t, d, "reload")
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Equal(t, "walpurge: walpurge.yaml: `http` changed, and that needs a restart\n", stderr)
}
