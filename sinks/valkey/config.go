package valkey

import (
	"errors"
	"fmt"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
)

// Config is the `valkey:` block of a sink.
type Config struct {
	// URL says where: valkey://, valkeys://, redis://, rediss://
	// [user:password@]host[:port][,host[:port]...][/database], or
	// unix:///path/to/socket[?db=database]. Several hosts are nodes of one
	// cluster, or the sentinels that watch SentinelMaster.
	URL string `yaml:"url"`
	// Mode is auto, standalone, cluster or sentinel. With auto, which is also
	// what empty means, SentinelMaster makes it sentinel, several hosts make it
	// cluster, and a single host is asked.
	Mode string `yaml:"mode"`
	// SentinelMaster is the name by which sentinels know the primary.
	SentinelMaster string `yaml:"sentinel_master"`
	// SentinelUsername and SentinelPasswordFile are for sentinels. Without both, sentinels that ask for a
	// password get the user and password of the servers.
	SentinelUsername     string `yaml:"sentinel_username"`
	SentinelPasswordFile string `yaml:"sentinel_password_file"`
	// SentinelTLS says how sentinels are reached; nil: as the servers are.
	SentinelTLS *SentinelTLS `yaml:"-"`
	// Username is the ACL user; empty is the server's default user.
	Username string `yaml:"username"`
	// PasswordFile is read again at every connect; white space at its end is
	// dropped.
	PasswordFile string `yaml:"password_file"`
	// KeyPrefix is put before every key, hash, counter and tag set as it is, and before
	// every pattern with its glob characters escaped.
	KeyPrefix string `yaml:"key_prefix"`
	// TagSets say how the application keeps the keys of a tag. With none the sink
	// takes no tags.
	TagSets []TagSet   `yaml:"tag_sets"`
	Scan    ScanConfig `yaml:"scan"`
	// Publish has the values of each purge published.
	Publish PublishConfig `yaml:"-"`
	TLS     TLSConfig     `yaml:"tls"`
	// Uses are the kinds that Check makes sure of; 0 means all of Kinds. It
	// follows from the rules, not from the file.
	Uses invalidation.KindSet `yaml:"-"`
	// Hits, where it is not nil, is told how many of the keys that a rule had
	// purged existed and how many did not. It is called while Purge runs.
	Hits func(rule string, existed, absent int) `yaml:"-"`
	// Published, where it is not nil, is told of each message whether the server took it. It is
	// called from any goroutine.
	Published func(ok bool) `yaml:"-"`
}

// ScanConfig bounds what walking the key space may cost the server.
type ScanConfig struct {
	// Enabled lets rules name key prefixes. A flush may scan without it.
	Enabled bool `yaml:"enabled"`
	// KeysPerSecond is how many keys a walk looks at per second, over all
	// nodes together. They are looked at whether they match or not.
	KeysPerSecond int `yaml:"keys_per_second"`
}

// itemsPerCall is where longer pipelines stop paying: ten commands of
// keysPerCommand.
const itemsPerCall = 5000

// DefaultConfig returns the values of keys that the file leaves out. It is not
// valid as it stands: URL has no default.
func DefaultConfig() Config {
	return Config{Scan: ScanConfig{KeysPerSecond: 50000}}
}

// Validate reports every key that cannot be used, without touching the network
// or the password file. It repeats nothing of the URL, which may hold a
// password.
func (c Config) Validate() error {
	var errs []error
	ep, err := c.endpoint()
	if err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	errs = append(errs, c.validateMode(ep, err == nil)...)
	if err == nil && !ep.tls && c.TLS != (TLSConfig{}) && (c.SentinelTLS == nil || !c.SentinelTLS.Enabled) {
		errs = append(errs, errors.New("tls: the url asks for a connection without TLS; write valkeys:// in it"))
	}
	errs = append(errs, c.TLS.validate("tls")...)
	if c.SentinelTLS != nil {
		errs = append(errs, c.SentinelTLS.validate("sentinel_tls")...)
	}
	for i, t := range c.TagSets {
		if err := t.validate(); err != nil {
			errs = append(errs, fmt.Errorf("tag_sets[%d].%w", i, err))
		}
	}
	if ep.username != "" && c.Username != "" {
		errs = append(errs, errors.New("username: the url names a user as well; keep one of the two"))
	}
	if ep.password != "" && c.PasswordFile != "" {
		errs = append(errs, errors.New("password_file: the url holds a password as well; take it out of the url"))
	}
	if c.Scan.KeysPerSecond < 1 {
		errs = append(errs, fmt.Errorf("scan.keys_per_second: %d; write a number from 1, such as 50000", c.Scan.KeysPerSecond))
	}
	return errors.Join(errs...)
}

// Where names the servers and the database, or the part of it with the key prefix.
func (c Config) Where() string {
	ep, err := c.endpoint()
	if err != nil {
		return ""
	}
	where := fmt.Sprintf("%s, database %d", strings.Join(ep.addrs, ", "), ep.database)
	if c.KeyPrefix != "" {
		where += fmt.Sprintf(", key prefix %q", c.KeyPrefix)
	}
	return where
}

// Target names the database and the part of it that is purged, and the addresses that lead there. Which server
// that is, its history tells.
func (c Config) Target() history.Target {
	ep, err := c.endpoint()
	if err != nil {
		return history.Target{}
	}
	t := history.Target{Kind: "valkey", Scope: fmt.Sprintf("%d %s", ep.database, c.KeyPrefix), Parts: make(map[string]string)}
	for _, addr := range ep.addrs {
		if c.SentinelMaster != "" {
			addr = c.SentinelMaster + "@" + addr
		}
		t.Parts[addr] = addr
	}
	return t
}

// Kinds returns what the sink carries out.
func (c Config) Kinds() invalidation.KindSet {
	kinds := invalidation.Kinds(invalidation.Key, invalidation.Field, invalidation.KeyPattern, invalidation.Generation)
	if c.Scan.Enabled {
		kinds |= invalidation.Kinds(invalidation.KeyPrefix)
	}
	if len(c.TagSets) > 0 {
		kinds |= invalidation.Kinds(invalidation.Tag)
	}
	return kinds
}

// Caps returns how long values may be. Valkey takes keys of up to 512 MB, so they are as long as
// the stream can carry.
func (c Config) Caps() invalidation.Caps { return invalidation.Caps{} }

// Hints say what to write for the sink to take kinds that it does not take.
func (c Config) Hints() map[invalidation.Kind]string {
	hints := map[invalidation.Kind]string{}
	if !c.Kinds().Has(invalidation.KeyPrefix) {
		hints[invalidation.KeyPrefix] = "valkey takes key prefixes with scan: {enabled: true}, and then looks at every key of the server for them"
	}
	if !c.Kinds().Has(invalidation.Tag) {
		hints[invalidation.Tag] = `valkey takes tags with tag_sets: [{key: "tag:{tag}"}], where the application keeps the keys of each tag`
	}
	return hints
}

// Limits returns what one call may carry. Calls are not paced: the server's
// answer is the pace, and patterns have their own limit in keys.
func (c Config) Limits() sinks.Limits {
	return sinks.Limits{Items: itemsPerCall}
}
