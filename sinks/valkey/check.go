package valkey

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// checkKey cannot be a key of an application: applications do not name keys with a NUL.
const checkKey = "\x00walpurge-check"

// Check reports whether purges would work now: the server answers, is no
// replica, and lets the user run every command that Config.Uses needs, SCAN on
// every primary of a cluster. It changes nothing: the keys that it touches do not
// exist. It blocks like a short Purge and may run beside one. What is missing is
// reported with the ACL line that grants it.
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
	walks := s.cfg.uses(invalidation.KeyPattern) || s.cfg.uses(invalidation.KeyPrefix) || s.cfg.uses(invalidation.Everything)
	for _, node := range t.nodes {
		if err := s.ping(ctx, node); err != nil {
			return err
		}
		if _, err := s.describe(ctx, node); isDenied(err) {
			return err
		} else if errors.Is(err, ErrNotTold) {
			s.log.Warn("valkey does not tell its history", "err", err)
		}
		if !walks {
			continue
		}
		if _, err := s.scan(ctx, node, 0, escapeGlob(s.cfg.KeyPrefix+checkKey), 1); err != nil {
			return s.classify("SCAN", err)
		}
	}
	limited := false
	for _, p := range s.probes(client) {
		err := s.pipeline(ctx, client, valkey.Commands{p.command})[0].Error()
		switch {
		case err == nil || isNoKey(err) && p.name == "RENAMENX":
		case isNoScript(err):
		case isKeyDenied(err) && p.name == publishing:
			s.log.Warn("valkey user may publish to some channels only; make sure that the sink's channel is one of them", "channel", s.cfg.Publish.Channel)
		case isKeyDenied(err):
			limited = true
		default:
			return s.classify(p.name, err)
		}
	}
	if limited {
		s.log.Warn("valkey user may purge some keys only; make sure that they are those of the rules", "key_prefix", s.cfg.KeyPrefix)
	}
	return nil
}

// publishing is the name of the probe that publishes: to a channel without listeners, since
// those of the sink's channel would take the message for a purge.
const publishing = "PUBLISH"

type probe struct {
	name    string
	command valkey.Completed
}

// probes are the commands of what the configuration uses, on a key that does not
// exist.
func (s *Sink) probes(client valkey.Client) []probe {
	key, b := s.cfg.KeyPrefix+checkKey, client.B()
	out := []probe{{"UNLINK", b.Unlink().Key(key).Build()}}
	if s.cfg.uses(invalidation.Generation) {
		out = append(out,
			probe{"EVAL", b.Eval().Script(probeScript).Numkeys(1).Key(key).Build()},
			// A script that does not exist: what counts is that it is looked for.
			probe{"EVALSHA", b.Evalsha().Sha1(strings.Repeat("0", 40)).Numkeys(1).Key(key).Build()})
	}
	if s.cfg.Publish.Channel != "" {
		out = append(out, probe{publishing, b.Publish().Channel(checkKey).Message("").Build()})
	}
	if s.cfg.uses(invalidation.Field) {
		out = append(out, probe{"HDEL", b.Hdel().Key(key).Field(checkKey).Build()})
	}
	if s.cfg.uses(invalidation.Tag) {
		for _, l := range s.layouts {
			out = append(out,
				probe{"counting a tag set", l.count(b, key)},
				probe{"scanning a tag set", l.scan(b, key, 0)},
				probe{"RENAMENX", b.Renamenx().Key(key).Newkey(s.asides.of(key)).Build()})
		}
	}
	return out
}

// isDenied tells a refusal that a grant would end.
func isDenied(err error) bool {
	class, _ := sinks.ClassOf(err)
	return errors.Is(err, ErrNotTold) && class == sinks.Lane && strings.Contains(err.Error(), lacking)
}

func isNoScript(err error) bool {
	reply, ok := valkey.IsValkeyErr(err)
	return ok && reply.IsNoScript()
}

func (s *Sink) ping(ctx context.Context, node valkey.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	if err := node.Do(ctx, node.B().Ping().Build()).Error(); err != nil {
		return s.classify("PING", err)
	}
	return nil
}
