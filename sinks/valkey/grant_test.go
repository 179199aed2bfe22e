package valkey

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// features are what a configuration can use, with a batch that uses it.
var features = map[string]struct {
	change func(*Config)
	batch  []invalidation.Invalidation
}{
	"keys": {
		func(c *Config) { c.Uses = invalidation.Kinds(invalidation.Key) },
		ofKind(invalidation.Key, "a", "b"),
	},
	"patterns": {
		func(c *Config) { c.Uses = invalidation.Kinds(invalidation.Key, invalidation.KeyPattern) },
		[]invalidation.Invalidation{pattern("a*"), pattern("b*"), {Kind: invalidation.Everything}},
	},
	"key prefixes": {
		func(c *Config) { c.Scan.Enabled, c.Uses = true, invalidation.Kinds(invalidation.KeyPrefix) },
		ofKind(invalidation.KeyPrefix, "a:"),
	},
	"fields": {
		func(c *Config) { c.Uses = invalidation.Kinds(invalidation.Field) },
		ofKind(invalidation.Field, invalidation.JoinField("h", "1"), invalidation.JoinField("i", "1")),
	},
	"publish": {
		func(c *Config) { c.Uses, c.Publish.Channel = invalidation.Kinds(invalidation.Key), "invalidations" },
		ofKind(invalidation.Key, "a"),
	},
	"generations": {
		func(c *Config) { c.Uses = invalidation.Kinds(invalidation.Generation) },
		ofKind(invalidation.Generation, "g", "h"),
	},
	"tag sets": {
		func(c *Config) {
			c.TagSets, c.Uses = []TagSet{{Key: "tag:{tag}"}}, invalidation.Kinds(invalidation.Tag)
		},
		ofKind(invalidation.Tag, "red", "blue"),
	},
	"Laravel's tag sets": {
		func(c *Config) {
			c.TagSets, c.Uses = []TagSet{{Layout: "laravel"}}, invalidation.Kinds(invalidation.Tag)
		},
		ofKind(invalidation.Tag, "red"),
	},
	"all": {
		func(c *Config) { c.Scan.Enabled, c.TagSets = true, []TagSet{{Layout: "symfony"}, {Layout: "laravel"}} },
		slices.Concat(ofKind(invalidation.Key, "a"), ofKind(invalidation.Field, invalidation.JoinField("h", "1")), ofKind(invalidation.Generation, "g"), ofKind(invalidation.Tag, "red"), ofKind(invalidation.KeyPrefix, "a:")),
	},
}

// wordsOf reads a line as a shell and the server's client would.
func wordsOf(t *testing.T, line string) []string {
	line, ok := strings.CutPrefix(line, "ACL SETUSER walpurge on '>the password' ")
	require.True(t, ok, line)
	return strings.Fields(line)
}

// The line that is printed is enough for what the configuration uses, in a purge
// and in a check; and without any of its words the check names the whole line.
func TestGrantIsEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	standalone, clustered := startServer(t), startCluster(t, 1)[0]
	for place, srv := range map[string]*server{"standalone": standalone, "cluster": clustered} {
		grantTo := func(words []string) {
			do(t, srv.admin, append([]string{"ACL", "SETUSER", "walpurge", "reset", "on", ">pw"}, words...)...)
		}
		for name, feature := range features {
			t.Run(place+" "+name, func(t *testing.T) {
				open := func() *Sink {
					return openSink(t, "valkey://walpurge:pw@"+srv.addr, nil, func(c *Config) {
						c.KeyPrefix = "app:"
						feature.change(c)
					})
				}
				line := open().cfg.grant(place == "cluster")
				words := wordsOf(t, line)
				require.Equal(t, "~app:*", words[0])
				grantTo(words)
				s := open()
				require.NoError(t, s.Check(t.Context()))
				require.Empty(t, allKeys(t, srv.admin), "a check changes nothing")
				full := [][]string{{"SET", "app:a:1", "v"}, {"SADD", "app:tag:red", "a:1"}, {"ZADD", "app:tag:red:entries", "1", "a:1"}}
				for _, cmd := range full {
					do(t, srv.admin, cmd...)
				}
				require.NoError(t, s.Purge(t.Context(), feature.batch))
				do(t, srv.admin, "FLUSHALL")

				for i, missing := range words {
					if i == 0 || strings.HasPrefix(missing, "&") {
						continue // a check cannot tell which keys and channels are meant
					}
					grantTo(slices.Delete(slices.Clone(words), i, i+1))
					err := open().Check(t.Context())
					if missing == "+cluster|shards" && err == nil {
						continue // only servers from 8 on are asked for shards
					}
					if strings.HasPrefix(missing, "+cluster|") {
						requireLane(t, err, missing)
						continue
					}
					requireLane(t, err, line)
				}
			})
		}
	}
}

func TestGrantOfOtherUsers(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Uses = invalidation.Kinds(invalidation.Key)
	require.Equal(t, "ACL SETUSER default ~* +info +ping +unlink", cfg.grant(false))
	cfg.URL, cfg.KeyPrefix = "valkey://bob:hunter2@c", "a *"
	require.Equal(t, `ACL SETUSER bob on '>the password' "~a \\**" +info +ping +unlink`, cfg.grant(false))
	cfg.KeyPrefix, cfg.Publish.Channel = "", "in*"
	require.Equal(t, `ACL SETUSER bob on '>the password' ~* "&in\\*" +info +ping +publish +unlink`, cfg.grant(false))
}
