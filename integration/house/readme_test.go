package house

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/harness"
)

// steps is the README's section about one's own database, being followed.
type steps struct {
	*testing.T
	dir    string
	env    []string
	blocks []block
	pg     *harness.Postgres
	cache  valkey.Client
	addr   string
	// cacheURL is that of the cache.
	cacheURL string
}

// The steps of the README work as written, on a server that wants passwords and
// with a role that owns nothing.
func TestReadmeSteps(t *testing.T) {
	s := follow(t, "README.md", "With your own database")
	ctx := t.Context()
	require.NoError(t, s.pg.Exec(ctx, "shop", s.next("sql")))
	s.write("walpurge.yaml", s.next("yaml")+"http: {listen: "+s.addr+"}\n")
	s.next("sh") // the variables, which name this test's servers instead
	s.write("rules/shop.yaml", s.next("yaml"))

	out, code := s.shell(s.next("sh"))
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "CREATE PUBLICATION")
	require.Contains(t, out, strings.TrimSpace(s.next("text")))
	out, code = s.shell(s.next("sh"))
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "fine: pipeline shop, 1 sink")

	s.set("product:before", "a first start flushes nothing")
	s.set("product:2", "changed since the slot was made")
	s.set("session:1", "not ours")
	require.NoError(t, s.pg.Exec(ctx, "shop", "INSERT INTO products (id, slug) VALUES (2, 'two')"))
	stop := s.start(s.next("sh"))
	s.gone("product:2")
	require.True(t, s.has("product:before"))
	s.set("product:1", "old")
	s.set("product:slug:one", "old")
	require.NoError(t, s.pg.Exec(ctx, "shop", "UPDATE products SET slug = 'uno' WHERE id = 1"))
	s.gone("product:1")
	s.gone("product:slug:one")
	require.True(t, s.has("session:1"))

	s.operations()
	require.NoError(t, stop())
}

// follow starts what a reader of a document, or of one section of it, has: a database with a table, a
// cache, psql and walpurge in the PATH.
func follow(t *testing.T, document, heading string) *steps {
	ctx := t.Context()
	s := &steps{T: t, dir: t.TempDir()}
	section := read(t, document)
	if heading != "" {
		_, rest, found := strings.Cut(section, "\n## "+heading+"\n")
		require.True(t, found)
		section, _, _ = strings.Cut(rest, "\n## ")
	}
	s.blocks, _ = blocks(section)

	binaries, err := harness.FindPostgres()
	require.NoError(t, err)
	s.pg, err = harness.StartPostgres(ctx, harness.PostgresConfig{
		Binaries: binaries,
		HBA:      []string{"local all postgres trust", "host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"},
		// With a limit, the metric about it is there.
		Settings: map[string]string{"max_slot_wal_keep_size": "1GB"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.pg.Close()) })
	require.NoError(t, s.pg.Exec(ctx, "postgres", "CREATE DATABASE shop"))
	require.NoError(t, s.pg.Exec(ctx, "shop", `CREATE TABLE products (id bigint PRIMARY KEY, slug text NOT NULL);
		INSERT INTO products VALUES (1, 'one')`))
	vk, err := harness.StartValkey(ctx, harness.ValkeyConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, vk.Close()) })
	s.cache, err = valkey.NewClient(valkey.ClientOption{InitAddress: []string{vk.Addr()}, DisableCache: true})
	require.NoError(t, err)
	t.Cleanup(s.cache.Close)
	s.cacheURL = vk.URL()
	port, err := harness.FreePort()
	require.NoError(t, err)
	s.addr = fmt.Sprintf("127.0.0.1:%d", port)

	self, err := os.Executable()
	require.NoError(t, err)
	s.write("path/walpurge", "#!/bin/sh\n"+asWalpurge+"=1 exec '"+self+"' \"$@\"\n")
	require.NoError(t, os.Chmod(filepath.Join(s.dir, "path/walpurge"), 0o755))
	s.env = append(os.Environ(),
		"PATH="+filepath.Join(s.dir, "path")+":"+binaries.Dir+":"+os.Getenv("PATH"),
		"DATABASE_URL="+s.pg.URL("shop", "walpurge", "change-me"),
		"ADMIN_URL="+s.pg.URL("shop"),
		"VALKEY_URL="+vk.URL(),
	)
	return s
}

// next is the README's next block, which must be of this language.
func (s *steps) next(lang string) string {
	s.Helper()
	require.NotEmpty(s, s.blocks)
	b := s.blocks[0]
	s.blocks = s.blocks[1:]
	require.Equal(s, lang, b.lang, b.text)
	return b.text
}

func (s *steps) write(name, text string) {
	path := filepath.Join(s.dir, name)
	require.NoError(s, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(s, os.WriteFile(path, []byte(text), 0o600))
}

func (s *steps) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-e", "-x", "-o", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// shell runs a block and returns what it said and its exit code.
func (s *steps) shell(script string) (string, int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	cmd := s.command(ctx, script)
	out, err := cmd.CombinedOutput()
	s.Logf("%s", out)
	if err != nil && cmd.ProcessState == nil {
		require.NoError(s, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// start runs a block that does not end by itself. The function returned asks it
// to and says how it did.
func (s *steps) start(script string) func() error {
	cmd := s.command(context.WithoutCancel(s.Context()), "exec "+strings.TrimSpace(script))
	log, err := os.Create(filepath.Join(s.dir, "run.log"))
	require.NoError(s, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(s, cmd.Start())
	var ended error
	done := make(chan struct{})
	go func() {
		ended = cmd.Wait()
		close(done)
	}()
	stop := func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
			return ended
		case <-time.After(30 * time.Second):
			return fmt.Errorf("did not stop: %w", cmd.Process.Kill())
		}
	}
	s.Cleanup(func() {
		_ = stop()
		if text, _ := os.ReadFile(log.Name()); s.Failed() {
			s.Logf("the daemon said:\n%s", text)
		}
		_ = log.Close()
	})
	return stop
}

func (s *steps) set(key, value string) {
	require.NoError(s, s.cache.Do(s.Context(), s.cache.B().Set().Key(key).Value(value).Build()).Error())
}

func (s *steps) has(key string) bool {
	n, err := s.cache.Do(s.Context(), s.cache.B().Exists().Key(key).Build()).AsInt64()
	require.NoError(s, err)
	return n == 1
}

func (s *steps) gone(key string) {
	s.Helper()
	require.Eventually(s, func() bool { return !s.has(key) }, 20*time.Second, 10*time.Millisecond, "key %s is still there", key)
}

// get asks the daemon's listener.
func (s *steps) get(path string) *http.Response {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "http://"+s.addr+path, nil)
	require.NoError(s, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(s, err)
	s.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}
