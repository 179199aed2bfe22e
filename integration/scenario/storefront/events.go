package storefront

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

// Event kills the second replica. It stays away: the application reads from the other one.
func (s *system) Event(ctx context.Context) ([]oracle.Commit, error) {
	s.lost = time.Now()
	return nil, s.env.Lose(ctx, s.replicas[1])
}

// KillBetween kills the application after a COMMIT and before its deletes: Valkey keeps commands that
// write waiting meanwhile, so that the deletes are not done.
func (s *system) KillBetween(ctx context.Context) (out []oracle.Commit, err error) {
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{s.env.Valkey.Addr()}, DisableCache: true})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	// The most popular product: its pages are in the caches.
	c := change{"/admin/products/24", `{"price_cents": 99900}`, 1, 24}
	before, err := s.committed(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := client.Do(ctx, client.B().ClientPause().Timeout(60_000).Write().Build()).Error(); err != nil {
		return nil, err
	}
	answered := make(chan error, 1)
	go func() {
		_, err := s.backOffice(ctx, c)
		answered <- err
	}()
	for out, err = before, nil; err == nil && version(out, "product:24") == version(before, "product:24"); {
		select {
		case <-time.After(2 * time.Millisecond):
			out, err = s.committed(ctx, c)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := errors.Join(err, s.app.Kill(), <-answered); err != nil {
		return out, err
	}
	if err := s.untilGone(ctx, client); err != nil {
		return out, err
	}
	if err := client.Do(ctx, client.B().ClientUnpause().Build()).Error(); err != nil {
		return out, err
	}
	return out, s.app.Restart(ctx)
}

// untilGone waits until Valkey has dropped the connections of the application, and with them the
// deletes that it kept waiting.
func (s *system) untilGone(ctx context.Context, client valkey.Client) error {
	for {
		list, err := client.Do(ctx, client.B().ClientList().Build()).ToString()
		if err != nil || !strings.Contains(list, " name=storefront ") {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the application still has connections to Valkey: %w", ctx.Err())
		}
	}
}

func version(of []oracle.Commit, row string) int64 {
	for _, c := range of {
		if c.Row == row {
			return c.Version.Version
		}
	}
	return 0
}
