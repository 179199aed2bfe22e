package sinks

import (
	"context"
	"log/slog"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/history"
)

// Config describes one kind of sink: a pointer to the block that the configuration file has for it.
// The rest of the program knows a kind by these methods only, so a new kind is a folder with such a
// type and a line where cmd/config lists the blocks.
type Config interface {
	// Kind is the key of the block, and the name of the kind in status and reports.
	Kind() string
	// SetDefaults stores the values of keys that the file leaves out. It is called before decoding.
	SetDefaults()
	// Validate reports every key that cannot be used, without touching network or files. It repeats
	// no value that may be a secret.
	Validate() error
	// Known returns a copy for Validate and Accepts in an offline check: an acceptable value replaces
	// each one for which unset reports that it names a variable without a value.
	Known(unset func(value string) bool) Config
	// Using returns a copy whose check asks for the permissions that these kinds of values need.
	Using(kinds invalidation.KindSet) Config

	// Kinds are what the sink can carry out, and Caps how long their values may be.
	Kinds() invalidation.KindSet
	Caps() invalidation.Caps
	// Accepts says why the sink can never carry out a value of a flush, nil if it may.
	Accepts(inv invalidation.Invalidation) error
	// Traits are what rules, checks and the status have to know beside that.
	Traits() Traits
	// Limits bound one call, Budgets the calls in a time; no budgets: calls are not limited.
	Limits() Limits
	Budgets() []Budget
	// Where names the cache for an operator: servers, zone, service. Target identifies it.
	Where() string
	Target() history.Target
	// Open returns a sink that has not connected yet. The error is Validate's.
	Open(o Options) (*Opened, error)
}

// Traits are the properties of a configured sink.
type Traits struct {
	// RawTags reports that tags travel in no header, so that any bytes may be in them.
	RawTags bool
	// Headers is what the sink does with the headers of rules.
	Headers urlvariant.HeaderUse
	// Hints say what to write in the block for the sink to take a kind that it does not take.
	Hints map[invalidation.Kind]string
	// Host says why URLs of a host are not for this sink, and what to write so that they are; nil if
	// URLs of any host may be.
	Host func(host string) error
	// TellsPages reports that answers to purges by URL say whether there was such a page.
	TellsPages bool
	// Free reports that purges cost nothing, so that a benchmark may send many.
	Free bool
	// SecretFiles are the keys of the block that name files with secrets, with the files. An empty
	// path is a key that is not set.
	SecretFiles []SecretFile
	// ClearText are the hosts that the sink reaches without TLS.
	ClearText []ClearText
}

// SecretFile is a key of the block that names a file with a secret.
type SecretFile struct{ Key, Path string }

// ClearText is a host that is reached without TLS, the key that says so, and what to do about it.
type ClearText struct{ Key, Host, Fix string }

// Options are what a sink is opened with.
type Options struct {
	Log *slog.Logger
	// Flush is what purges the whole sink.
	Flush []invalidation.Invalidation
	// Observer receives what the sink reports beside the results of its purges; nil if nothing does.
	Observer Observer
}

// Observer counts what a sink learns while it purges. Open asks it for the functions that the kind
// needs, once each, so a kind without such results asks for none. The functions may be called from
// any goroutine.
type Observer interface {
	// Hits returns a function that counts how many of the values that a rule had purged existed and
	// how many did not. values names what is counted, in the plural.
	Hits(values string) func(rule string, existed, absent int)
	// Published returns a function that counts a message about purges: ok reports whether the server
	// has accepted it.
	Published() func(ok bool)
	// Pages returns a function that is told of each purge by URL that was carried out whether the cache may
	// have had the page: existed is false only where the answer says that it did not. Nil: nothing wants to know.
	Pages() func(url string, existed bool)
}

// Opened is a sink with what a lane does not need to know of it. Sink, Check and Close are always set.
type Opened struct {
	Sink Sink
	// Check reports what would keep the sink from purging.
	Check func(ctx context.Context) error
	// Close releases what the sink holds. Calls that follow fail.
	Close func()
	// Unproven is what neither the cache's answers nor Check prove; empty if they prove all. Probe
	// proves it by entries of its own; nil if nothing can.
	Unproven string
	Probe    func(ctx context.Context) error
	// Nodes asks the cache for its history; nil if it cannot tell.
	Nodes func(ctx context.Context) ([]history.Node, error)
	// WalkTime is how long a purge of patterns takes, which the sink carries out by a walk over all
	// keys; nil if it has no such purges.
	WalkTime func(ctx context.Context) (time.Duration, error)
	// Billed counts what the provider asks money for by the piece; nil if it does not.
	Billed func() int64
}
