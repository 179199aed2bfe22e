package valkey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func withTags(prefix string, sets ...TagSet) func(*Config) {
	return func(c *Config) { c.KeyPrefix, c.TagSets = prefix, sets }
}

// tag stores entries and puts them into the set of a tag.
func tag(t testing.TB, c valkey.Client, set string, members ...string) {
	fill(t, c, members...)
	for _, m := range members {
		do(t, c, "SADD", set, m)
	}
}

func TestTagSets(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, withTags("", TagSet{Key: "tag:{tag}"}))
	tag(t, srv.admin, "tag:red", "p:1", "p:2")
	tag(t, srv.admin, "tag:blue", "p:2", "p:3")
	var many []string
	for i := range 2500 {
		many = append(many, fmt.Sprintf("m:%d", i))
	}
	tag(t, srv.admin, "tag:many", many...)
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "red", "many", "none", "red")))
	require.ElementsMatch(t, []string{"p:3", "tag:blue"}, allKeys(t, srv.admin))

	requireItem(t, openSink(t, "valkey://"+srv.addr, nil, nil).Purge(t.Context(), ofKind(invalidation.Tag, "red")), "tag_sets")
}

// Two layouts for one tag: both sets go, and a fault of one spares the other.
func TestTwoTagSets(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, withTags("", TagSet{Key: "a:{tag}"}, TagSet{Key: "b:{{tag}}:x"}))
	tag(t, srv.admin, "a:red", "p:1")
	tag(t, srv.admin, "b:{red}:x", "p:2")
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "red")))
	require.Empty(t, allKeys(t, srv.admin))

	fill(t, srv.admin, "a:red") // a string
	tag(t, srv.admin, "b:{red}:x", "p:2")
	requireItem(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "red")), "holds another type")
	require.Equal(t, []string{"a:red"}, allKeys(t, srv.admin))
}

func TestTagSetsUnderAPrefix(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, withTags("app:", TagSet{Key: "tag:{tag}"}))
	fill(t, srv.admin, "app:p:1", "p:1", "app:p:2", "app:app:p:2", "p:3")
	do(t, srv.admin, "SADD", "app:tag:red", "p:1", "app:p:2")
	do(t, srv.admin, "SADD", "tag:red", "p:3")
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "red")))
	require.ElementsMatch(t, []string{"p:1", "p:3", "tag:red"}, allKeys(t, srv.admin), "nothing without the prefix goes")
}

// What Laravel and Symfony write, as their sources do.
func TestLayouts(t *testing.T) {
	srv := startServer(t)
	laravel := openSink(t, "valkey://"+srv.addr, nil, withTags("laravel_cache_", TagSet{Layout: "laravel"}))
	fill(t, srv.admin, "laravel_cache_9f86d081:home", "laravel_cache_9f86d081:list", "laravel_cache_-1")
	do(t, srv.admin, "ZADD", "laravel_cache_tag:shop:entries", "-1", "9f86d081:home", "1795000000", "9f86d081:list")
	for i := range 600 {
		do(t, srv.admin, "ZADD", "laravel_cache_tag:shop:entries", "1795000000.5", fmt.Sprintf("gone:%d", i))
	}
	require.NoError(t, laravel.Purge(t.Context(), ofKind(invalidation.Tag, "shop")))
	require.Equal(t, []string{"laravel_cache_-1"}, allKeys(t, srv.admin), "a score is no member")
	do(t, srv.admin, "FLUSHALL")

	symfony := openSink(t, "valkey://"+srv.addr, nil, withTags("ns:", TagSet{Layout: "symfony"}))
	tag(t, srv.admin, "ns:\x00tags\x00shop", "ns:home", "ns:list") // up to 6.2
	tag(t, srv.admin, "ns:\x01tags\x01shop", "ns:page")            // since 6.3
	require.NoError(t, symfony.Purge(t.Context(), ofKind(invalidation.Tag, "shop")))
	require.Empty(t, allKeys(t, srv.admin))

	named := openSink(t, "valkey://"+srv.addr, nil, withTags("app:", TagSet{Layout: "symfony", Key: "ns:\x00tags\x00{tag}"}))
	tag(t, srv.admin, "app:ns:\x01tags\x01shop", "app:ns:page")
	require.NoError(t, named.Purge(t.Context(), ofKind(invalidation.Tag, "shop")))
	require.Empty(t, allKeys(t, srv.admin), "a key of its own, after an upgrade of Symfony")
}

// phpredis serializes members of sets where it is configured to.
func TestSerializedMembers(t *testing.T) {
	srv := startServer(t)
	for name, pack := range map[string]func(string) string{
		"php":      func(m string) string { return fmt.Sprintf("s:%d:\"%s\";", len(m), m) },
		"json":     func(m string) string { return `"` + strings.ReplaceAll(m, "/", `\/`) + `"` },
		"igbinary": func(m string) string { return "\x00\x00\x00\x02\x11" + string(rune(len(m))) + m },
		"msgpack":  func(m string) string { return "\xd9" + string(rune(len(m))) + m },
	} {
		for layout, add := range map[string][]string{"laravel": {"ZADD", "1795000000"}, "set": {"SADD"}, "symfony": {"SADD"}} {
			t.Run(name+" in "+layout, func(t *testing.T) {
				do(t, srv.admin, "FLUSHALL")
				s := openSink(t, "valkey://"+srv.addr, nil, withTags("p_", TagSet{Layout: layout, Key: "tag:{tag}"}))
				entry := "9f86d081:größe/of \"it\"" + strings.Repeat("x", 40)
				if name == "json" {
					entry = strings.ReplaceAll(entry, `"`, "'")
				}
				fill(t, srv.admin, "p_"+entry, "p_plain", "p_other")
				do(t, srv.admin, slices.Concat(add[:1], []string{"p_tag:shop"}, add[1:], []string{pack(entry)}, add[1:], []string{"plain"})...)
				require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "shop")))
				require.Equal(t, []string{"p_other"}, allKeys(t, srv.admin))
			})
		}
	}
}

// What is in a compressed member cannot be known: the set stays, the tag is reported, and everything
// else of it is purged, again and again.
func TestCompressedMembers(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, withTags("", TagSet{Layout: "laravel"}))
	zstd := "\x28\xb5\x2f\xfd\x04\x00secret"
	tagged := func(members ...string) {
		for _, m := range members {
			fill(t, srv.admin, m)
			do(t, srv.admin, "ZADD", "tag:shop:entries", "-1", m)
		}
	}
	tagged("a:1")
	do(t, srv.admin, "ZADD", "tag:shop:entries", "-1", zstd)
	err := s.Purge(t.Context(), ofKind(invalidation.Tag, "shop"))
	requireItem(t, err, "compressed")
	require.NotContains(t, err.Error(), "secret")
	require.Equal(t, []string{"tag:shop:entries"}, allKeys(t, srv.admin))

	// The application has begun a new set before the old one could get its name back.
	aside := newAsides().of("tag:shop:entries")
	do(t, srv.admin, "RENAME", "tag:shop:entries", aside)
	tagged("a:2")
	requireItem(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "shop")), "compressed")
	require.ElementsMatch(t, []string{aside, "tag:shop:entries"}, allKeys(t, srv.admin), "what is known is purged, and no set lost")
	tagged("a:3")
	requireItem(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "shop", "none")), "compressed")
	require.ElementsMatch(t, []string{aside, "tag:shop:entries"}, allKeys(t, srv.admin))
}

func TestPropertyUnpack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := rapid.String().Draw(r, "s")
		texts, _ := unpack(s)
		require.Contains(r, texts, s)
		n := len(s)
		for _, packed := range []string{
			fmt.Sprintf("s:%d:\"%s\";", n, s),
			"\x00\x00\x00\x02\x13" + string(binary.BigEndian.AppendUint32(nil, uint32(n))) + s,
			"\xdb" + string(binary.BigEndian.AppendUint32(nil, uint32(n))) + s,
		} {
			texts, known := unpack(packed)
			require.True(r, known)
			require.Contains(r, texts, s)
		}
	})
}

// A purge is cut short before each of its commands in turn: whatever was done by
// then, the next purge leaves nothing of the tag, and an entry that was added in
// between is not lost.
func TestTagPurgeCutShortAnywhere(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	var entries []string
	for i := range 700 { // more than one SSCAN
		entries = append(entries, fmt.Sprintf("p:%d", i))
	}
	cuts := 0
	for cut := 1; ; cut++ {
		do(t, srv.admin, "FLUSHALL")
		fill(t, srv.admin, entries...)
		do(t, srv.admin, append([]string{"SADD", "tag:red"}, entries...)...)
		s := openSink(t, "valkey://"+px.addr(), nil, withTags("", TagSet{Key: "tag:{tag}"}))
		require.NoError(t, s.Purge(t.Context(), keysOf("connect")))
		seen := 0
		px.set(script{replies: func([]string) string {
			if seen++; seen >= cut {
				return "-LOADING the server was killed\r\n"
			}
			return ""
		}})
		err := s.Purge(t.Context(), ofKind(invalidation.Tag, "red"))
		px.set(script{})
		s.Close()
		if err == nil {
			break
		}
		cuts++
		tag(t, srv.admin, "tag:red", "late")
		again := openSink(t, "valkey://"+srv.addr, nil, withTags("", TagSet{Key: "tag:{tag}"}))
		require.NoError(t, again.Purge(t.Context(), ofKind(invalidation.Tag, "red")), "after %d commands", cut)
		require.Empty(t, allKeys(t, srv.admin), "after %d commands", cut)
	}
	require.GreaterOrEqual(t, cuts, 7, "SSCAN, SCARD, RENAMENX, SSCAN, UNLINK, ..., UNLINK of the set")
}

// An entry that is added to the tag during the walk is left to the next purge.
func TestTagAddedDuringTheWalk(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	s := openSink(t, "valkey://"+px.addr(), nil, withTags("", TagSet{Key: "tag:{tag}"}))
	tag(t, srv.admin, "tag:red", "p:1")
	px.set(script{replies: func(args []string) string {
		if args[0] == "UNLINK" && args[1] == "p:1" {
			tag(t, srv.admin, "tag:red", "late")
		}
		return ""
	}})
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "red")))
	px.set(script{})
	require.ElementsMatch(t, []string{"late", "tag:red"}, allKeys(t, srv.admin))
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, "red")))
	require.Empty(t, allKeys(t, srv.admin))
}

// Two purgers of one tag do not take each other's set.
func TestTagPurgedByTwo(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	s := openSink(t, "valkey://"+px.addr(), nil, withTags("", TagSet{Key: "tag:{tag}"}))
	tag(t, srv.admin, "tag:red", "p:1")
	aside := s.asides.of("tag:red")
	px.set(script{replies: func(args []string) string {
		if args[0] == "RENAMENX" {
			do(t, srv.admin, "SADD", aside, "p:2")
		}
		return ""
	}})
	err := s.Purge(t.Context(), ofKind(invalidation.Tag, "red"))
	require.ErrorIs(t, err, errTwoPurgers)
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Transient, class)
	require.ElementsMatch(t, []string{"p:1", "tag:red", aside}, allKeys(t, srv.admin))
}

func TestTagSetsInACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	admin := clusterAdmin(t, nodes[0])
	s := openSink(t, "valkey://"+nodes[0].addr, nil, withTags("", TagSet{Key: "tag:{tag}"}))
	var tags []string
	for i := range 250 {
		name := fmt.Sprintf("t%d", i)
		tags = append(tags, name)
		for j := range 3 {
			entry := fmt.Sprintf("p:%d:%d", i, j)
			require.NoError(t, admin.Do(context.Background(), admin.B().Set().Key(entry).Value("v").Build()).Error())
			require.NoError(t, admin.Do(context.Background(), admin.B().Sadd().Key("tag:"+name).Member(entry).Build()).Error())
		}
	}
	fill(t, admin, "other")
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Tag, tags...)))
	require.Equal(t, []string{"other"}, heldAnywhere(t, nodes))
}

// Whatever a set is called, its aside lies in the same slot, is another key, has
// always the same name, and is covered by the same ACL pattern.
func TestAsidesShareTheSlot(t *testing.T) {
	t.Parallel()
	srv := startCluster(t, 1)[0]
	a := newAsides()
	letters := rapid.SampledFrom([]byte{'a', 'b', ':', '{', '}', '{', '}', 0, 0xff})
	name := rapid.Map(rapid.SliceOfN(letters, 0, 12), func(b []byte) string { return string(b) })
	rapid.Check(t, func(rt *rapid.T) {
		set := name.Draw(rt, "set")
		aside := a.of(set)
		require.Equal(rt, aside, newAsides().of(set))
		require.NotEqual(rt, set, aside)
		require.Equal(rt, set, aside[:len(set)])
		for _, key := range []string{set, aside} {
			slot, err := do(t, srv.admin, "CLUSTER", "KEYSLOT", key).AsInt64()
			require.NoError(rt, err)
			require.Equal(rt, int(slot), slotOf(key))
		}
		require.Equal(rt, slotOf(set), slotOf(aside))
	})
}

func TestTagFailuresKeepTheirPlace(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, withTags("", TagSet{Key: "tag:{tag}"}))
	tag(t, srv.admin, "tag:good", "p:1")
	fill(t, srv.admin, "tag:bad", "k")
	batch := append(ofKind(invalidation.Tag, "bad", "good"), append(keysOf("k"), ofKind(invalidation.Generation, "g")...)...)
	err := s.Purge(t.Context(), batch)
	var be *sinks.BatchError
	require.True(t, errors.As(err, &be), "%v", err)
	require.Len(t, be.Failed, 1)
	require.ErrorIs(t, be.Failed[0], errNoSet)
	require.ElementsMatch(t, []string{"tag:bad", "g"}, allKeys(t, srv.admin))
}
