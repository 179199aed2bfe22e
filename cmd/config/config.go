package config

import (
	"log/slog"
	"time"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/warm"
)

// Config is a file that was read and found sound.
type Config struct {
	// File is the path that it was read from.
	File     string
	Pipeline string
	// Rules are the rules files, globs resolved.
	Rules []string
	// Globs are the patterns that Rules come from.
	Globs   []string
	DataDir string

	Postgres  postgres.Config
	Visible   bool
	StopOnGap bool
	// Formerly is the system identifier of the database cluster whose stream this one takes over.
	Formerly string
	// Replicas are the read replicas that purges wait for; ReplicasAuto: those that
	// the primary knows.
	Replicas     []postgres.ReadReplica
	ReplicasAuto bool

	NATS    NATS
	Stream  Stream
	Confirm watermark.Policy
	// Sinks are in the order of the file, but for inner ones before those that
	// wait for them.
	Sinks []Sink
	// Warms are the sinks of the kind warm, which purge nothing and have no lane in the stream.
	Warms []Warm
	// Retired are sinks of former days whose backlog may be dropped.
	Retired []string
	HTTP    HTTP
	Log     Log

	DrainTimeout time.Duration
}

// NATS says which server holds the stream. Without URL it is embedded.
type NATS struct {
	URL         string
	Credentials string
	// NkeyFile has the seed of a user's nkey.
	NkeyFile string
	// Domain is the JetStream domain, empty for that of the server.
	Domain   string
	Replicas int
	CAFile   string
	CertFile string
	KeyFile  string
	// HandshakeFirst begins the connection with TLS.
	HandshakeFirst bool
	// Listen and TokenFile are for the embedded server.
	Listen    string
	TokenFile string
}

// Embedded reports that the daemon runs its own server.
func (n NATS) Embedded() bool { return n.URL == "" }

// Stream bounds the stream.
type Stream struct {
	MaxAge   time.Duration
	MaxBytes int64
}

// Sink is one configured sink.
type Sink struct {
	Name string
	Pos  strictyaml.Pos
	// Config is the block of its kind.
	Config sinks.Config

	After   []string
	MaxWait time.Duration
	// SecondPurge is the time after which everything is purged again; 0: it is not.
	SecondPurge time.Duration
	// Takes are the kinds that rules may send it.
	Takes invalidation.KindSet
	// Caps are the lengths of the values that it takes.
	Caps invalidation.Caps
	// RawTags reports that its tags travel in no header.
	RawTags bool
	// Hints say what to write in the sink's block for it to take a kind.
	Hints map[invalidation.Kind]string
	// Shadow counts and logs purges without carrying them out.
	Shadow bool
	// Withheld is the percentage of values that its rollout keeps from it.
	Withheld int
	// Headers is what it does with the headers of rules.
	Headers urlvariant.HeaderUse
	// Flush is what the file says to purge when everything must go, empty if it
	// says nothing.
	Flush []invalidation.Invalidation
	// FlushPace and FlushAtMost spread a flush and hold flushes apart; 0: neither.
	FlushPace, FlushAtMost time.Duration
	// MaxBacklog is what its lane may leave in the stream, in bytes; 0: no bound.
	// Past it the lane stops, or a flush takes the place of its backlog.
	MaxBacklog     int64
	StopOnOverflow bool
	// Formerly is the name whose lane this sink goes on with, if any.
	Formerly string
}

// Warm is one configured sink of the kind warm.
type Warm struct {
	Name string
	Pos  strictyaml.Pos
	// Config is its block.
	Config *warm.Config
	// After are the sinks that must have purged a page before it is fetched.
	After []string
	// Takes are the kinds that rules may send it.
	Takes invalidation.KindSet
	// Shadow counts and logs pages without fetching them.
	Shadow bool
	// Withheld is the percentage of URLs that its rollout keeps from it.
	Withheld int
}

// Kind names the kind as the file does.
func (s Sink) Kind() string { return s.Config.Kind() }

// HTTP is the admin listener.
type HTTP struct {
	Listen string
	// Advertise is HOST:PORT or a URL by which other machines reach the listener; empty: what Listen says.
	Advertise string
	TokenFile string
}

// Log is how the daemon writes its log.
type Log struct {
	Level slog.Level
	JSON  bool
}

// Specs tells the rules what the sinks take, in the order of Sinks and then of Warms.
func (c *Config) Specs() []rules.SinkSpec {
	out := make([]rules.SinkSpec, len(c.Sinks))
	for i, s := range c.Sinks {
		out[i] = rules.SinkSpec{Name: s.Name, Takes: s.Takes, Caps: s.Caps, RawTags: s.RawTags, Hints: s.Hints, Withheld: s.Withheld, Headers: s.Headers}
	}
	for _, w := range c.Warms {
		out = append(out, rules.SinkSpec{Name: w.Name, Takes: w.Takes, Withheld: w.Withheld, Headers: w.Config.HeaderUse()})
	}
	return out
}

// RoutedNames lists all that rules can send values to, in the order of Specs.
func (c *Config) RoutedNames() []string {
	out := c.SinkNames()
	for _, w := range c.Warms {
		out = append(out, w.Name)
	}
	return out
}

// SinkNames lists the sinks in the order of Sinks.
func (c *Config) SinkNames() []string {
	out := make([]string, len(c.Sinks))
	for i, s := range c.Sinks {
		out[i] = s.Name
	}
	return out
}
