package house

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/cmd/cli"
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
}

// Every command of the README works at the first try, on a server as it is installed and
// with a role that owns nothing; and the rule that it begins with does what it says.
func TestReadmeSteps(t *testing.T) {
	t.Parallel()
	s := follow(t, "README.md", "With your own database")
	ctx := t.Context()
	s.begin()
	s.fine() // wal_level
	s.psql(s.next("sql"))
	s.write("walpurge.yaml", s.next("yaml")+"http: {listen: "+s.addr+"}\n")
	s.write("rules/shop.yaml", s.next("yaml"))
	require.Contains(t, s.fine(), "fine: pipeline shop, 1 sink\n")

	s.set("product:before", "a first start flushes nothing")
	s.set("product:2", "changed since the slot was made")
	s.set("session:1", "not ours")
	require.NoError(t, s.pg.Exec(ctx, "shop", "INSERT INTO products (id, slug) VALUES (2, 'two'), (3, 'three')"))
	stop := s.start(s.next("sh"))
	s.gone("product:2")
	require.True(t, s.has("product:before"))
	require.Regexp(t, `(?m)^(\(integer\) )?0$`, s.fine())
	s.set("product:3", "old")
	s.set("product:slug:three", "old")
	require.NoError(t, s.pg.Exec(ctx, "shop", "UPDATE products SET slug = 'drei' WHERE id = 3"))
	s.gone("product:3")
	s.gone("product:slug:three")
	require.True(t, s.has("session:1"))
	out, code := s.shell("walpurge rules init -c walpurge.yaml")
	require.Zero(t, code, out)

	s.operations()
	require.NoError(t, s.pg.Exec(ctx, "shop", "INSERT INTO products (id, slug) VALUES (7, 'seven')"))
	s.runbooks()
	require.NoError(t, stop())
	require.Contains(t, s.fine(), "dropped slot walpurge_shop")
	require.Empty(t, s.blocks)
}

// The rule on the README's first screen can be served with what the README says of the
// table: check has nothing to say, and it purges and ignores what its comments claim.
func TestReadmeFirstRule(t *testing.T) {
	found, _ := blocks(read(t, "README.md"))
	require.Equal(t, "yaml", found[0].lang)
	require.LessOrEqual(t, strings.Count(found[0].text, "\n"), 10)
	screen, _, _ := strings.Cut(read(t, "README.md"), "make demo")
	require.Contains(t, screen, "`ALTER TABLE products REPLICA IDENTITY FULL`", "what the rule needs stands beside it")
	require.LessOrEqual(t, strings.Count(screen, "\n"), 40)

	const lock = `version: 1
tables:
  public.products:
    identity: IDENTITY
    columns:
      id: {type: bigint, not_null: true}
      slug: {type: text, not_null: true}
      name: {type: text, not_null: true}
      price_cents: {type: integer, not_null: true}
      stock: {type: integer, not_null: true}
`
	for identity, ok := range map[string]bool{"full": true, "default\n    key: [id]": false} {
		text := strings.Replace(lock, "IDENTITY", identity, 1)
		dir := t.TempDir()
		write := func(name, text string) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			return path
		}
		write("catalog.lock.yaml", text)
		write("rules/shop.yaml", found[0].text)
		config := write("walpurge.yaml", `pipeline: shop
rules: [rules/*.yaml]
postgres: {url: "postgres://db/shop"}
sinks:
  cache: {valkey: {url: "valkey://cache"}}
  edge: {cloudflare: {zone_id: "00000000000000000000000000000000", api_token_file: t}, after: [cache], flush: {everything: true}}
`)
		var out bytes.Buffer
		code := cli.Main([]string{"check", "-c", config, "--offline"}, "test", strings.NewReader(""), &out, &out)
		if !ok {
			require.Equal(t, 1, code, "%s", out.String())
			require.Contains(t, out.String(), "purges by the old slug")
			continue
		}
		require.Zero(t, code, "%s", out.String())
		test := write("rules_test.yaml", `rules: [rules/shop.yaml]
catalog: catalog.lock.yaml
tests:
  - name: a new slug
    table: public.products
    update: {old: {id: 7, slug: a, name: x, price_cents: 1, stock: 1}, new: {id: 7, slug: b, name: x, price_cents: 1, stock: 1}}
    expect:
      cache: {keys: ["product:7", "product:slug:a", "product:slug:b"]}
      edge: {tags: [product-7, product-list]}
  - name: a new stock count purges nothing
    table: public.products
    update: {old: {id: 7, slug: a, name: x, price_cents: 1, stock: 2}, new: {id: 7, slug: a, name: x, price_cents: 1, stock: 1}}
    expect: {}
`)
		out.Reset()
		require.Zero(t, cli.Main([]string{"rules", "test", test}, "test", strings.NewReader(""), &out, &out), "%s", out.String())
	}
}

// follow starts what a reader of a document, or of one section of it, has: a database of a server
// with the default wal_level, a cache, psql, valkey-cli and walpurge in the PATH.
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
		Settings: map[string]string{"max_slot_wal_keep_size": "1GB", "wal_level": "replica"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.pg.Close()) })
	require.NoError(t, s.pg.Exec(ctx, "postgres", "CREATE DATABASE shop"))
	vk, err := harness.StartValkey(ctx, harness.ValkeyConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, vk.Close()) })
	s.cache, err = valkey.NewClient(valkey.ClientOption{InitAddress: []string{vk.Addr()}, DisableCache: true})
	require.NoError(t, err)
	t.Cleanup(s.cache.Close)
	port, err := harness.FreePort()
	require.NoError(t, err)
	s.addr = fmt.Sprintf("127.0.0.1:%d", port)

	self, err := os.Executable()
	require.NoError(t, err)
	s.write("path/walpurge", "#!/bin/sh\n"+asWalpurge+"=1 exec '"+self+"' \"$@\"\n")
	client, err := exec.LookPath("valkey-cli")
	if err != nil {
		client, err = exec.LookPath("redis-cli")
	}
	require.NoError(t, err, "apt-get install valkey-tools, or redis-tools")
	s.write("path/valkey-cli", "#!/bin/sh\nexec '"+client+"' \"$@\"\n")
	for _, name := range []string{"walpurge", "valkey-cli"} {
		require.NoError(t, os.Chmod(filepath.Join(s.dir, "path", name), 0o755))
	}
	// A second that the race detector sleeps for in the exit of each command, see integration.command.
	s.env = append(append([]string{"GORACE=atexit_sleep_ms=20"}, os.Environ()...),
		"PATH="+filepath.Join(s.dir, "path")+":"+binaries.Dir+":"+os.Getenv("PATH"),
		"DATABASE_URL="+s.pg.URL("shop", "walpurge", "change-me"),
		"ADMIN_URL="+s.pg.URL("shop"),
		"VALKEY_URL=redis://"+vk.Addr()+"/0",
	)
	return s
}

// begin carries out the first block: its variables name the test's servers instead, and its
// directory is below the test's.
func (s *steps) begin() {
	s.Helper()
	for line := range strings.Lines(s.next("sh")) {
		line = strings.TrimSpace(line)
		if name, found := strings.CutPrefix(line, "export "); found {
			name, _, _ = strings.Cut(name, "=")
			require.True(s, slices.ContainsFunc(s.env, func(v string) bool { return strings.HasPrefix(v, name+"=") }), line)
			continue
		}
		if dir, found := strings.CutPrefix(line, "cd "); found {
			s.dir = filepath.Join(s.dir, dir)
			require.DirExists(s, s.dir)
			continue
		}
		out, code := s.shell(line)
		require.Zero(s, code, out)
	}
}

// restart is how the documents restart PostgreSQL; a test restarts its own.
const restart = "sudo systemctl restart postgresql\n"

// fine runs the next block, every command of which must succeed, and returns what it said.
func (s *steps) fine() string {
	s.Helper()
	before, after, restarts := strings.Cut(s.next("sh"), restart)
	said, code := s.shell(before)
	require.Zero(s, code, said)
	if restarts {
		require.NoError(s, s.pg.Restart(s.Context()))
		more, code := s.shell(after)
		require.Zero(s, code, more)
		said += more
	}
	return said
}

// psql runs a block of SQL as a superuser.
func (s *steps) psql(sql string) {
	s.Helper()
	s.write("block.sql", sql)
	out, code := s.shell(`psql "$ADMIN_URL" -X -v ON_ERROR_STOP=1 -f block.sql`)
	require.Zero(s, code, out)
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
