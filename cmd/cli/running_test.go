//go:build full

package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/integration/harness"
)

// marker is in every secret of the test, and in nothing else.
const marker = "s3cr3t"

// transcript is what a daemon prints. It can be read meanwhile.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// echo refuses every request, and its answer repeats what it was sent, in the forms that the APIs have for errors.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	text := fmt.Sprintf("refused %s %s %v %s", r.Method, r.URL, r.Header, body)
	answer, _ := json.Marshal(map[string]any{
		"success": false, "errors": []map[string]any{{"code": 10000, "message": text}}, "msg": text, "detail": text, "message": text, "Message": text, "error": text,
	})
	w.Header().Set("X-Echo", "refused")
	w.Header().Set("Location", r.URL.String())
	w.WriteHeader(http.StatusForbidden)
	_, _ = w.Write(answer)
}

// holdsSecret are the settings of a sink that hold a secret, or can.
func holdsSecret(setting string) bool {
	switch setting {
	case "url", "base", "base_url", "nodes", "headers", "username":
		return true
	}
	return strings.HasSuffix(setting, "_file") && setting != "ca_file" && setting != "cert_file" && setting != "key_file"
}

// secrets visits each setting of a sink's block that holds a secret.
func secrets(v reflect.Value, path string, visit func(path string, value reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			secrets(v.Elem(), path, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || name == "-" || name == "" {
				continue
			}
			if holdsSecret(name) {
				visit(path+"."+name, v.Field(i))
				continue
			}
			secrets(v.Field(i), path+"."+name, visit)
		}
	}
}

// TestARunningDaemonShowsNoSecret runs a daemon with a sink of each kind, whose addresses, headers and files hold secrets. Its servers refuse it,
// repeat what they were sent, break off, or are not there. Then a reload brings a file with broken addresses. Nothing that people
// can read of it has a secret: what it prints, what its listener answers, and what the commands print that ask it.
func TestARunningDaemonShowsNoSecret(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	refuses := httptest.NewServer(http.HandlerFunc(echo))
	defer refuses.Close()
	breaksOff := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer breaksOff.Close()
	pg, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{HBA: []string{"local all postgres trust", "host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, pg.Close()) }()
	require.NoError(t, pg.Exec(t.Context(), "postgres", "CREATE TABLE products (id bigint PRIMARY KEY)"))
	require.NoError(t, pg.Exec(t.Context(), "postgres", "CREATE ROLE daemon SUPERUSER LOGIN PASSWORD 's3cr3t-pg'"))
	vk, err := harness.StartValkey(t.Context(), harness.ValkeyConfig{})
	require.NoError(t, err)
	defer func() { require.NoError(t, vk.Close()) }()
	stream, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "u", Password: "s3cr3t-nats", JetStream: true, StoreDir: filepath.Join(dir, "js"), NoLog: true, NoSigs: true})
	require.NoError(t, err)
	stream.Start()
	defer func() { stream.Shutdown(); stream.WaitForShutdown() }()
	require.True(t, stream.ReadyForConnections(time.Minute))
	natsAddr := stream.Addr().String()

	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for _, name := range []string{"http", "cloudflare", "bunny", "fastly", "hmac", "valkey", "sentinel"} {
		write(name, "s3cr3t-file-"+name+"\n")
	}
	write("r.yaml", "rules: [{name: product, table: public.products, keys: ['product:{id}'], tags: ['p-{id}'], urls: ['https://shop.example/p/{id}']}]\n")
	t.Setenv("AWS_ACCESS_KEY_ID", "s3cr3t-aws-id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-aws-key")
	t.Setenv("AWS_SESSION_TOKEN", "s3cr3t-aws-session")
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listen.Addr().String()
	require.NoError(t, listen.Close())
	valkey := "valkey://u:s3cr3t-valkey-url@" + vk.Addr() + "/0"
	all := fmt.Sprintf(`pipeline: app
rules: [r.yaml]
data_dir: data
postgres: {url: '%s', replicas: ['postgres://r:s3cr3t-replica@127.0.0.1:1/d?sslmode=disable']}
nats: {url: 'nats://u:s3cr3t-nats@%s', replicas: 1}
sinks:
  refused: {valkey: {url: '%s'}, flush: {key_patterns: ['product:*']}, max_wait: 1s}
  byfile: {valkey: {url: 'valkey://%s', username: s3cr3t-user, password_file: valkey}, flush: {key_patterns: ['product:*']}, max_wait: 1s}
  sentinel: {valkey: {url: 'valkey://u:s3cr3t-a@127.0.0.1:1', mode: sentinel, sentinel_master: m, sentinel_username: s3cr3t-user, sentinel_password_file: sentinel}, flush: {key_patterns: ['product:*']}, max_wait: 1s}
  absent: {valkey: {url: 'valkey://:s3cr3t-absent@127.0.0.1:1'}, flush: {key_patterns: ['product:*']}, max_wait: 1s}
  cloudflare: {cloudflare: {zone_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token_file: cloudflare, base_url: '%[5]s/s3cr3t-path'}, flush: {everything: true}, max_wait: 1s}
  bunny: {bunny: {pull_zone_id: 1, api_token_file: bunny, base_url: '%[5]s/s3cr3t-path'}, flush: {everything: true}, max_wait: 1s}
  fastly: {fastly: {service_id: abc, api_token_file: fastly, base_url: '%[5]s/s3cr3t-path'}, flush: {everything: true}, max_wait: 1s}
  cloudfront: {cloudfront: {distribution_id: E2EXAMPLE1234, base_url: '%[5]s'}, flush: {everything: true}, max_wait: 1s}
  varnish: {varnish: {nodes: ['%[5]s'], headers: {X-Key: [s3cr3t-node]}, bans: true}, flush: {everything: true}, max_wait: 1s}
  webhook: {webhook: {url: '%[5]s/s3cr3t-path?token=s3cr3t-query', headers: {Authorization: 'Bearer s3cr3t-header', X-Key: s3cr3t-key}, hmac_file: hmac}, flush: {everything: true}, max_wait: 1s}
  broken: {webhook: {url: '%[6]s/s3cr3t-path?token=s3cr3t-query', headers: {X-Key: s3cr3t-key}}, flush: {everything: true}, max_wait: 1s}
  warm: {warm: {base: '%[5]s', headers: {Authorization: ['Bearer s3cr3t-warm']}}, after: [cloudflare]}
http: {listen: '%[7]s', token_file: http}
drain_timeout: 1s
`, pg.URL("postgres", "daemon", "s3cr3t-pg"), natsAddr, valkey, vk.Addr(), refuses.URL, breaksOff.URL, addr)
	write("walpurge.yaml", all)

	// Every setting that holds a secret holds one.
	cfg, err := config.Load("walpurge.yaml", config.Options{Env: os.LookupEnv})
	require.NoError(t, err)
	held := map[string]bool{}
	visit := func(path string, value reflect.Value) {
		held[path] = held[path] || strings.Contains(fmt.Sprint(value), marker)
		if file, ok := value.Interface().(string); ok && strings.HasSuffix(path, "_file") && file != "" {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			held[path] = held[path] || strings.Contains(string(data), marker)
		}
	}
	for _, s := range cfg.Sinks {
		secrets(reflect.ValueOf(s.Config), s.Kind(), visit)
	}
	for _, s := range cfg.Warms {
		secrets(reflect.ValueOf(s.Config), "warm", visit)
	}
	for _, k := range config.Kinds() {
		secrets(reflect.ValueOf(k), k.Kind(), visit)
	}
	// These addresses have no place for a secret, and headers of these kinds are refused or names.
	for _, none := range []string{"varnish.nodes", "cloudfront.base_url", "warm.base", "fastly.headers", "cloudfront.headers", "cloudflare.headers"} {
		delete(held, none)
	}
	require.Greater(t, len(held), 12)
	for path, holds := range held {
		require.True(t, holds, "%s holds no secret in this test: add one", path)
	}

	forms := []string{marker, base64.StdEncoding.EncodeToString([]byte("u:s3cr3t"))[:8], base64.StdEncoding.EncodeToString([]byte(marker))[:6]}
	silent := func(what, text string) {
		t.Helper()
		for _, form := range forms {
			if at := strings.Index(text, form); at >= 0 {
				require.FailNow(t, "a secret is shown", "%s: %s", what, text[max(0, at-300):min(len(text), at+100)])
			}
		}
	}
	ask := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if method == http.MethodPost {
			req.Header.Set("Authorization", "Bearer s3cr3t-file-http")
		}
		resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(answer) + fmt.Sprint(resp.Header)
	}
	everything := func(when string) {
		t.Helper()
		for _, path := range []string{"/", "/-/healthy", "/-/ready", "/-/streaming", "/metrics", "/api/v1/status", "/api/v1/parked", "/api/v1/wait?lsn=0/1&timeout=10ms",
			"/api/v1/wait?lsn=FFFF/1&timeout=10ms", "/api/v1/wait?lsn=0/1&sink=nosuch", "/page/main.js", "/nothing", "/api/v1/tail?sink=nosuch"} {
			_, text := ask(http.MethodGet, path, "")
			silent(when+" "+path, text)
		}
		for path, body := range map[string]string{
			"/api/v1/purge": `{"sink":"webhook","all":true,"dry_run":true}`, "/api/v1/replay": `{"sink":"nosuch"}`, "/api/v1/pause": `{"sink":"nosuch"}`,
			"/api/v1/resume": `{"sink":"webhook"}`, "/api/v1/parked": `{"action":"retry","all":true}`, "/api/v1/skip": `{"to":"current","pipeline":"no"}`,
			"/api/v1/explain": `{"table":"public.products","update":{"old":{"id":1},"new":{"id":2}}}`, "/-/reload": "{}", "/": "",
		} {
			_, text := ask(http.MethodPost, path, body)
			silent(when+" POST "+path, text)
		}
		for _, args := range []string{"status", "status --json", "check", "check --offline", "parked list", "purge --sink webhook --all --dry-run", "purge --sink cloudflare --tag a", "wait 0/1 --timeout 10ms",
			"rules lock -o lock.yaml", "pause --sink nosuch", "replay --since 1h --sink nosuch", "skip --to current", "reload"} {
			var out, errs bytes.Buffer
			Main(append(strings.Fields(args), "-c", "walpurge.yaml"), "test", strings.NewReader("no\n"), &out, &errs)
			silent(when+" walpurge "+args, out.String()+errs.String())
		}
	}

	printed := new(transcript)
	ended := make(chan int, 1)
	go func() {
		ended <- Main([]string{"run", "-c", "walpurge.yaml", "--no-watch"}, "test", strings.NewReader(""), printed, printed)
	}()
	stopped := false
	defer func() {
		if !stopped {
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
			<-ended
		}
		silent("the daemon's output", printed.String())
	}()
	until := func(what string, cond func() bool) {
		t.Helper()
		require.Eventually(t, cond, 25*time.Second, 50*time.Millisecond, "%s\n%s", what, printed)
	}
	type document struct {
		Sinks []struct{ Name, State, Error string }
	}
	until("the daemon streams", func() bool { code, _ := ask(http.MethodGet, "/-/ready", ""); return code == http.StatusOK })
	require.NoError(t, pg.Exec(t.Context(), "postgres", "INSERT INTO products SELECT generate_series(1, 20)"))
	until("every sink has failed", func() bool {
		_, text := ask(http.MethodGet, "/api/v1/status", "")
		silent("status", text)
		var d document
		if json.NewDecoder(strings.NewReader(text)).Decode(&d) != nil || len(d.Sinks) == 0 {
			return false
		}
		for _, s := range d.Sinks {
			if s.Error == "" {
				return false
			}
		}
		return true
	})
	everything("refused")

	write("walpurge.yaml", strings.ReplaceAll(all, refuses.URL, "http://u:s3cr3t-broken@[::1"))
	everything("a broken file")
	code, _ := ask(http.MethodPost, "/-/reload", "{}")
	require.Equal(t, http.StatusUnprocessableEntity, code)
	write("walpurge.yaml", all)

	// The database refuses the password, and the stream's server is gone.
	require.NoError(t, pg.Exec(t.Context(), "postgres", "ALTER ROLE daemon PASSWORD 'another'"))
	require.NoError(t, pg.Exec(t.Context(), "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'daemon'"))
	until("the database refuses", func() bool {
		_, text := ask(http.MethodGet, "/api/v1/status", "")
		return strings.Contains(text, "password authentication failed")
	})
	everything("the database refuses")
	stream.Shutdown()
	stream.WaitForShutdown()
	until("the stream's server is gone", func() bool { return strings.Contains(printed.String(), "the connection to the NATS server is lost") })
	// Other calls wait for their servers by now; see package admin.
	for _, path := range []string{"/-/streaming", "/api/v1/status", "/api/v1/parked", "/metrics"} {
		_, text := ask(http.MethodGet, path, "")
		silent("without the stream "+path, text)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	<-ended
	stopped = true
}
