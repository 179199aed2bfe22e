package valkey

import (
	"context"
	"fmt"

	"github.com/valkey-io/valkey-go"
)

// checkKey cannot be a key of an application: nobody names keys with a NUL.
const checkKey = "\x00walpurge-check"

// Check reports whether purges would work now: the server answers, is no
// replica, and lets the user run UNLINK and, which every flush by pattern
// needs, SCAN; in a cluster on every primary. It changes nothing: the key it
// unlinks does not exist. It blocks like a short Purge and may run beside one.
//
// A user who is limited to some keys passes even if the limit leaves out what
// the rules name; that is logged, because only the rules know.
func (s *Sink) Check(ctx context.Context) error {
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}
	if err = s.check(ctx, l); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("valkey: check stopped: %w", ctx.Err())
		}
		s.drop(l)
	}
	return err
}

func (s *Sink) check(ctx context.Context, client valkey.Client) error {
	t, err := s.primaries(ctx, client)
	if err != nil {
		return err
	}
	for _, node := range t.nodes {
		if err := s.ping(ctx, node); err != nil {
			return err
		}
		if _, err := s.scan(ctx, node, 0, escapeGlob(s.cfg.KeyPrefix+checkKey), 1); err != nil {
			return s.classify("SCAN", err)
		}
	}
	err = s.send(ctx, client, []work{{keys: []string{s.cfg.KeyPrefix + checkKey}}})[0]
	if isKeyDenied(err) {
		s.log.Warn("valkey user may run UNLINK on some keys only; make sure that they are those of the rules", "key_prefix", s.cfg.KeyPrefix)
		return nil
	}
	if err != nil {
		return s.classify("UNLINK", err)
	}
	return nil
}

func (s *Sink) ping(ctx context.Context, node valkey.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	if err := node.Do(ctx, node.B().Ping().Build()).Error(); err != nil {
		return s.classify("PING", err)
	}
	return nil
}
