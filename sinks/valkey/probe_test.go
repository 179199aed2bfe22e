package valkey

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// A probe proves each layout, refuses each that purges nothing, and leaves nothing behind.
func TestProbe(t *testing.T) {
	srv := startServer(t)
	open := func() *Sink {
		return openSink(t, "valkey://"+srv.addr, nil, withTags("app:",
			TagSet{Key: "tag:{tag}"}, TagSet{Layout: "laravel"}, TagSet{Layout: "symfony"}, TagSet{Layout: "symfony", Key: "ns:\x00tags\x00{tag}"}))
	}
	tag(t, srv.admin, "app:tag:users", "app:1")
	users := allKeys(t, srv.admin)

	s := open()
	require.NoError(t, s.Probe(t.Context()))
	require.Len(t, s.layouts, 6, "Symfony's have two forms")
	for i := range s.layouts {
		s := open()
		s.layouts[i].key = "elsewhere" + s.layouts[i].key // finds no set, which the server does not refuse
		err := s.Probe(t.Context())
		require.ErrorContains(t, err, "but the entry is still there", i)
		require.Equal(t, 1, strings.Count(err.Error(), "probe of"), err)

		s = open()
		s.layouts[i].scores = !s.layouts[i].scores
		require.ErrorContains(t, s.Probe(t.Context()), "its set", i)
	}
	require.ElementsMatch(t, users, allKeys(t, srv.admin), "nothing is left, and nothing of the application's is gone")

	p := newProof(s.cfg, "run")
	l, err := s.connected(t.Context())
	require.NoError(t, err)
	for _, r := range s.pipeline(t.Context(), l, p.stores(l.B())) {
		require.NoError(t, r.Error())
	}
	for _, part := range p.parts {
		require.ErrorContains(t, s.judge(t.Context(), l, part), "probe of "+part.what+": the purge succeeded, but ", "nothing was purged")
		for _, key := range []string{part.gone.key, part.gone.set, part.stays.key, part.stays.set} {
			if key != "" {
				left, err := do(t, srv.admin, "PTTL", key).AsInt64()
				require.NoError(t, err)
				require.Positive(t, left, "it expires")
			}
		}
	}
	do(t, srv.admin, "DEL", p.parts[0].gone.key, p.parts[0].stays.key)
	require.ErrorContains(t, s.judge(t.Context(), l, p.parts[0]), "an entry that it does not name is gone, too")
}

// The line that a probe prints is enough beside that of the purges, and each of its words is needed.
func TestGrantOfAProbe(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	cfg := func(c *Config) {
		c.KeyPrefix, c.TagSets = "app:", []TagSet{{Key: "tag:{tag}"}, {Layout: "laravel"}}
		c.Uses = invalidation.Kinds(invalidation.Key, invalidation.Tag)
	}
	open := func() *Sink { return openSink(t, "valkey://walpurge:pw@"+srv.addr, nil, cfg) }
	purges := wordsOf(t, open().cfg.grant(false))
	line := open().cfg.probeGrant()
	require.Equal(t, "ACL SETUSER walpurge +exists +pexpire +sadd +set +zadd", line)
	words := strings.Fields(line)[3:]
	grantTo := func(more ...string) {
		do(t, srv.admin, append(append([]string{"ACL", "SETUSER", "walpurge", "reset", "on", ">pw"}, purges...), more...)...)
	}
	grantTo(words...)
	require.NoError(t, open().Probe(t.Context()))
	for i := range words {
		less := append(append([]string{}, words[:i]...), words[i+1:]...)
		grantTo(less...)
		requireLane(t, open().Probe(t.Context()), line)
	}
	require.Empty(t, allKeys(t, srv.admin))
}
