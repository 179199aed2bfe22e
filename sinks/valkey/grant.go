package valkey

import (
	"cmp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// grant is the ACL line that allows what the configuration uses, and no more.
// Subcommands are written as all versions take them; AUTH and HELLO are allowed
// to everybody (since 6.2).
func (c Config) grant(clustered bool) string {
	words := []string{"ACL", "SETUSER", c.user()}
	if c.user() != defaultUser {
		words = append(words, "on", "'>the password'")
	}
	words = append(words, c.keyPattern())
	if c.Publish.Channel != "" {
		words = append(words, quotedWord("&"+escapeGlob(c.Publish.Channel)))
	}
	return strings.Join(append(words, c.commands(clustered)...), " ")
}

// defaultUser is whom the server takes a connection without a user name for.
const defaultUser = "default"

func (c Config) user() string {
	ep, _ := c.endpoint()
	return cmp.Or(c.Username, ep.username, defaultUser)
}

// keyPattern allows all keys of the sink. With a space in it, it is quoted for
// the command line of the server's own client.
func (c Config) keyPattern() string {
	return quotedWord("~" + escapeGlob(c.KeyPrefix) + "*")
}

func quotedWord(pattern string) string {
	if strings.ContainsAny(pattern, " \t\n\"'\\") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(pattern) + `"`
	}
	return pattern
}

// uses reports whether the rules, as far as they are known, need a kind.
func (c Config) uses(k invalidation.Kind) bool {
	if c.Uses == 0 {
		return c.Kinds().Has(k)
	}
	return c.Uses.Has(k)
}

// UsesTags reports whether purges by tag are among what the rules use.
func (c Config) UsesTags() bool { return c.Kinds().Has(invalidation.Tag) && c.uses(invalidation.Tag) }

func (c Config) commands(clustered bool) []string {
	words := []string{"+info", "+ping", "+unlink"}
	if c.uses(invalidation.KeyPattern) || c.uses(invalidation.KeyPrefix) || c.uses(invalidation.Everything) {
		words = append(words, "+scan")
	}
	if c.uses(invalidation.Generation) {
		words = append(words, "+eval", "+evalsha", "+get", "+set", "+time")
	}
	if c.uses(invalidation.Field) {
		words = append(words, "+hdel")
	}
	if c.Publish.Channel != "" {
		words = append(words, "+publish")
	}
	if c.uses(invalidation.Tag) {
		words = append(words, "+renamenx")
		for _, t := range c.TagSets {
			if l, _ := t.kind(); l.scores {
				words = append(words, "+zcard", "+zscan")
			} else {
				words = append(words, "+scard", "+sscan")
			}
		}
	}
	if clustered {
		words = append(words, "+cluster|slots", "+cluster|shards")
	}
	slices.Sort(words)
	return slices.Compact(words)
}
