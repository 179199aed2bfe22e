package dashboard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

// away is for how long Valkey does not run.
const away = 5 * time.Second

// Event kills Valkey and starts it again after a while. It comes back with what it held.
func (s *system) Event(ctx context.Context) ([]oracle.Commit, error) {
	if s.env.Valkey == nil {
		return nil, nil
	}
	if err := s.env.Valkey.Kill(); err != nil {
		return nil, err
	}
	select {
	case <-time.After(away):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.killed = true
	return nil, s.env.Valkey.Restart(ctx)
}

// KillBetween kills the application after a COMMIT and before its delete: Valkey keeps commands that
// write waiting meanwhile, so that the delete is not done.
func (s *system) KillBetween(ctx context.Context) (out []oracle.Commit, err error) {
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{s.env.Valkey.Addr()}, DisableCache: true})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	// The most popular user.
	c := savePreferences(1, "dark")
	before, err := s.committed(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := client.Do(ctx, client.B().ClientPause().Timeout(60_000).Write().Build()).Error(); err != nil {
		return nil, err
	}
	answered := make(chan error, 1)
	go func() {
		_, err := s.byApplication(ctx, c)
		answered <- err
	}()
	for out = before; err == nil && version(out, "preferences:1") == version(before, "preferences:1"); {
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
	if err := untilGone(ctx, client); err != nil {
		return out, err
	}
	if err := client.Do(ctx, client.B().ClientUnpause().Build()).Error(); err != nil {
		return out, err
	}
	return out, s.app.Restart(ctx)
}

// untilGone waits until Valkey has dropped the connections of the application, and with them the delete
// that it kept waiting.
func untilGone(ctx context.Context, client valkey.Client) error {
	for {
		list, err := client.Do(ctx, client.B().ClientList().Build()).ToString()
		if err != nil || !strings.Contains(list, " name=dashboard ") {
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
