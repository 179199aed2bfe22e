package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
)

// errSuperseded says that another process has opened a newer epoch on the stream that
// both share: it reads the log and works the lanes now.
var errSuperseded = errors.New("another process has taken over the pipeline")

// leads waits until this process may work the lanes, and reports false when the context
// ends before. A stream that is shared has lanes that are shared: they belong to
// whoever reads the log.
func (a *App) leads(ctx context.Context) bool {
	if a.cfg.NATS.Embedded() {
		return true
	}
	select {
	case <-a.pulse.leading:
		return true
	case <-ctx.Done():
		return false
	}
}

// watchStream returns an error that is stream.ErrGone when the streams or lanes that this process works are gone,
// and nil when the context ends.
func (a *App) watchStream(ctx context.Context) error {
	if !a.leads(ctx) {
		return nil
	}
	return a.stream.Watch(ctx, a.cfg.SinkNames())
}

// epochPause is how often a leader looks for a newer epoch than its own.
const epochPause = time.Second

// watchEpoch returns errSuperseded when another process has taken over, and nil when the
// context ends. A process that stood still, or was cut off from the database, learns it
// so; what it published meanwhile is purged once more, and its claims count for nothing.
func (a *App) watchEpoch(ctx context.Context) error {
	if !a.leads(ctx) {
		return nil
	}
	for {
		select {
		case <-beat.After(epochPause):
		case <-ctx.Done():
			return nil
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		claim, _, found, err := a.stream.LastClaim(asking)
		cancel()
		if err == nil && found && claim.Epoch > a.publisher.Epoch() {
			return errSuperseded
		}
	}
}

// reachedAt is where other machines reach this process's listener, which listens at the given address. An address of every
// interface names no machine, so the host's name takes its place.
func reachedAt(cfg config.HTTP, listening, hostname string) cdc.Leader {
	address := cfg.Advertise
	if address == "" {
		address = listening
		host, port, _ := net.SplitHostPort(listening)
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort(hostname, port)
		}
	}
	return checkedLeader(cdc.Leader{Address: address, Host: hostname})
}

// leaderPatience bounds how long a call waits for the name of the leader.
const leaderPatience = 2 * time.Second

// leader is the process that leads the pipeline; its fields are empty as far as they are not known. A process that stands by reads
// them from the newest claim, which anyone may have written who can publish to the stream.
func (a *App) leader(ctx context.Context) cdc.Leader {
	if a.reader.State().Phase != postgres.Standby {
		if a.reader.State().Phase.Reads() {
			return a.opts.Leader
		}
		return cdc.Leader{}
	}
	if a.cfg.NATS.Embedded() {
		return cdc.Leader{}
	}
	// The caller may have waited until its time was up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaderPatience)
	defer cancel()
	claim, _, found, err := a.stream.LastClaim(ctx)
	if err != nil || !found || claim.Own {
		return cdc.Leader{} // a claim of its own is older than the standby
	}
	return checkedLeader(claim.Leader)
}

// newestLeader is the leader that the newest claim in a shared stream names, for a command that is no daemon.
func newestLeader(ctx context.Context, cfg *config.Config) cdc.Leader {
	if cfg.NATS.Embedded() {
		return cdc.Leader{}
	}
	quiet := slog.New(slog.DiscardHandler)
	_, nc, err := connectNATS(cfg, quiet, newNATSErrors(cfg.NATS.URL, quiet))
	if err != nil {
		return cdc.Leader{}
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	claim, _, err := stream.Newest(ctx, nc, cfg.NATS.Domain, cfg.Pipeline)
	if err != nil {
		return cdc.Leader{}
	}
	return checkedLeader(claim.Leader)
}

// checkedLeader is a leader without what can be no address or name.
func checkedLeader(l cdc.Leader) cdc.Leader {
	if !config.Callable(l.Address) {
		l.Address = ""
	}
	if len(l.Host) > maxHost || display.Name(l.Host) != l.Host {
		l.Host = ""
	}
	return l
}

// maxHost is the longest name of a host.
const maxHost = 253

// standby returns an *admin.StandbyError while another process leads the pipeline, else nil.
func (a *App) standby(ctx context.Context) error {
	s := a.reader.State()
	if s.Phase != postgres.Standby {
		return nil
	}
	return &admin.StandbyError{Leader: a.leader(ctx), Why: s.Err}
}

// ownStreamOnly returns an *admin.StandbyError while another process leads the pipeline and has a stream that this one cannot
// read: what is asked of this one's stream says nothing about the pipeline.
func (a *App) ownStreamOnly(ctx context.Context) error {
	if !a.cfg.NATS.Embedded() {
		return nil
	}
	return a.standby(ctx)
}
