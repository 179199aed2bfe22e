package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// do runs a command, which may be sent twice, on the rig's Valkey as a user who may do
// everything.
func (r *rig) do(args ...string) string {
	r.t.Helper()
	reply := r.cache.Do(r.t.Context(), r.cache.B().Arbitrary(args...).Build().ToRetryable())
	require.NoError(r.t, reply.Error(), args[0])
	text, err := reply.ToString()
	if err == nil {
		return text
	}
	n, err := reply.AsInt64()
	require.NoError(r.t, err)
	return strconv.FormatInt(n, 10)
}

// The whole line with all that a Valkey takes, as a user who may do what check
// says and nothing else.
func TestValkeyTakesMoreThanKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{catalog: `rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
    key_prefixes: ["page:{id}:"]
    generations: ["catalog:{id}"]
    tags: ["product-{id}"]
    fields: [{key: products, field: "{id}"}]
    on_truncate: {generations: [catalog]}
`})
	addr := freeAddr(t)
	file := r.config(addr)
	r.edit("walpurge.yaml", `"}`, `", username: walpurge, password_file: `+r.path("password")+`, key_prefix: "app:", tag_sets: [{key: "tag:{tag}"}]}
    flush: {key_patterns: ["*"]}`)
	r.write("password", "pw\n")

	o := r.call("check", "--offline")
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stdout+o.stderr, "takes a key_prefix; cache: valkey takes key prefixes with scan: {enabled: true}")
	r.edit("walpurge.yaml", `tag_sets:`, `scan: {enabled: true}, tag_sets:`)

	r.do("ACL", "SETUSER", "walpurge", "reset", "on", ">pw", "~app:*", "+ping")
	o = r.call("check")
	require.Equal(t, 1, o.code, o.stdout)
	_, line, found := strings.Cut(o.stdout, "ACL SETUSER walpurge on '>the password' ")
	require.True(t, found, o.stdout)
	r.do(append([]string{"ACL", "SETUSER", "walpurge"}, strings.Fields(line)...)...)
	o = r.call("check")
	require.Zero(t, o.code, o.stdout)

	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a'), (2, 'b')")
	d := r.spawn(addr, file, nil)
	d.untilStreaming()
	for _, id := range []string{"1", "2"} {
		r.fill([]string{"app:product:" + id, "app:page:" + id + ":en", "app:list:" + id})
		r.do("SADD", "app:tag:product-"+id, "list:"+id)
		r.do("SET", "app:catalog:"+id, "1")
		r.do("HSET", "app:products", id, "x")
	}
	r.exec("UPDATE products SET name = 'x' WHERE id = 1")
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held("app:product:1", "app:page:1:en", "app:list:1", "app:tag:product-1"))
	stays := []string{"app:product:2", "app:page:2:en", "app:list:2", "app:tag:product-2", "app:catalog:1"}
	require.Equal(t, stays, r.held(stays...))
	require.NotEqual(t, "1", r.do("GET", "app:catalog:1"), "raised")
	require.Equal(t, "1", r.do("GET", "app:catalog:2"))
	require.Equal(t, "0", r.do("HEXISTS", "app:products", "1"))
	require.Equal(t, "1", r.do("HEXISTS", "app:products", "2"))

	o = r.call("purge", "--sink", "cache", "--field", "products", "2", "--addr", "http://"+addr)
	require.Zero(t, o.code, o.stderr)
	eventually(t, 30*time.Second, func() bool { return r.do("EXISTS", "app:products") == "0" }, "the last field is gone")

	r.exec("TRUNCATE products")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"app:catalog"}, r.held("app:catalog"))
	require.Equal(t, stays, r.held(stays...), "on_truncate names what is purged at this sink")
}
