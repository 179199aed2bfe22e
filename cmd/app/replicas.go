package app

import (
	"context"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/replica"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/router/stream"
)

// replicasOf are the replicas that purges wait for. Those that the primary knows are
// one: the slowest.
func replicasOf(cfg *config.Config) []replica.Replica {
	if cfg.ReplicasAuto {
		return []replica.Replica{{Name: "auto", Connect: cfg.Postgres.Connect, Read: replica.Auto(replica.DefaultLeave)}}
	}
	out := make([]replica.Replica, len(cfg.Replicas))
	for i, r := range cfg.Replicas {
		out[i] = replica.Replica{Name: r.Name, Connect: r.Connect, Read: replica.Read}
	}
	return out
}

// awayLedger keeps what is known of replicas in the stream.
type awayLedger struct {
	stream *stream.Stream
	sinks  []string
}

func (l awayLedger) Left(ctx context.Context, name string) error {
	return l.stream.ReplicaLeft(ctx, name)
}

func (l awayLedger) Away(ctx context.Context, name string) (bool, error) {
	return l.stream.ReplicaAway(ctx, name)
}

func (l awayLedger) Returned(ctx context.Context, name string) error {
	return l.stream.ReplicaReturned(ctx, name, l.sinks)
}

// replicaFaults are the replicas that cannot be waited for.
func replicaFaults(ctx context.Context, cfg *config.Config) []error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	primary, err := cfg.Postgres.Owner(ctx)
	if err != nil {
		return nil // a finding by itself
	}
	var errs []error
	for _, r := range replicasOf(cfg) {
		if err := replicaFault(ctx, r, primary.SystemID); err != nil {
			errs = append(errs, fmt.Errorf("postgres.replicas: %s: %w", r.Name, err))
		}
	}
	return errs
}

func replicaFault(ctx context.Context, r replica.Replica, primary string) error {
	conn, err := r.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	at, err := r.Read(ctx, conn)
	if err == nil && at.SystemID != primary {
		err = &postgres.Fault{Err: fmt.Errorf("it is a replica of another cluster: system id %s, and the primary's is %s", at.SystemID, primary),
			Fix: "name a replica of the database in postgres.url"}
	}
	return err
}

func (a *App) replicaStates() []status.Replica {
	if a.replicas == nil {
		return nil
	}
	var out []status.Replica
	for _, s := range a.replicas.States() {
		out = append(out, status.Replica{Name: s.Name, Away: s.Away, Error: s.Err})
	}
	return out
}
