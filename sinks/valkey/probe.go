package valkey

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// probeLife bounds how long the server keeps what a probe did not remove.
const probeLife = time.Minute

// Probe proves that purges remove what they name. It stores entries of its own, with a set of each form of
// each tag layout as the framework writes it, purges two tags of which the server knows one, and reads
// again: the entries and sets must be gone, and a control of each must have stayed. Keys and generations
// are proven if the rules use them, patterns are not, since that would be a walk over all keys. What was
// stored is removed before Probe returns, and expires within a minute. It blocks like a short Purge, and
// the error joins one for each layout that failed.
func (s *Sink) Probe(ctx context.Context) error {
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}
	p := newProof(s.cfg, rand.Text())
	defer s.removeProof(ctx, l, p)
	for _, r := range s.pipeline(ctx, l, p.stores(l.B())) {
		if err := r.Error(); err != nil {
			return s.probeError("storing a probe", err)
		}
	}
	if err := s.Purge(ctx, p.purges); err != nil {
		return fmt.Errorf("valkey: probe: %w", err)
	}
	var errs []error
	for _, part := range p.parts {
		errs = append(errs, s.judge(ctx, l, part))
	}
	return errors.Join(errs...)
}

// proof is what one run of Probe stores, purges and expects.
type proof struct {
	parts  []proofPart
	purges []invalidation.Invalidation
}

// proofPart is what is stored for one kind of purge, or for one form of a tag layout.
type proofPart struct {
	what string
	// gone is purged, stays is the control.
	gone, stays entry
	// raised reports that gone.key is a counter, which is raised and not removed.
	raised bool
}

// entry is a key and, for a tag, the set that has it.
type entry struct {
	key    string
	set    string
	member string
	scores bool
}

func newProof(cfg Config, run string) proof {
	var p proof
	name := func(part, what string) string { return "walpurge-probe:" + run + ":" + part + ":" + what }
	if cfg.uses(invalidation.Key) {
		p.parts = append(p.parts, proofPart{what: "a key",
			gone: entry{key: cfg.KeyPrefix + name("key", "gone")}, stays: entry{key: cfg.KeyPrefix + name("key", "stays")}})
		p.purges = append(p.purges, invalidation.Invalidation{Kind: invalidation.Key, Value: name("key", "gone")})
	}
	if cfg.uses(invalidation.Generation) {
		p.parts = append(p.parts, proofPart{what: "a generation", raised: true,
			gone: entry{key: cfg.KeyPrefix + name("generation", "raised")}, stays: entry{key: cfg.KeyPrefix + name("generation", "stays")}})
		p.purges = append(p.purges, invalidation.Invalidation{Kind: invalidation.Generation, Value: name("generation", "raised")})
	}
	if !cfg.uses(invalidation.Tag) {
		return p
	}
	tag := func(what string) string { return "walpurge-probe-" + run + "-" + what }
	for i, t := range cfg.TagSets {
		l, _ := t.kind()
		for n, form := range l.forms() {
			at := func(what string) entry {
				e := entry{member: name(fmt.Sprintf("tag-%d-%d", i, n), what), set: cfg.KeyPrefix + strings.ReplaceAll(form.key, tagHole, tag(what)), scores: form.scores}
				if e.key = cfg.KeyPrefix + e.member; t.Layout == "symfony" {
					e.member = e.key // Symfony keeps whole keys
				}
				return e
			}
			p.parts = append(p.parts, proofPart{what: fmt.Sprintf("tag_sets[%d] (layout %s), sets named %q", i, t.layoutName(), cfg.KeyPrefix+form.key),
				gone: at("gone"), stays: at("stays")})
		}
	}
	for _, what := range []string{"unknown", "gone"} {
		p.purges = append(p.purges, invalidation.Invalidation{Kind: invalidation.Tag, Value: tag(what)})
	}
	return p
}

// stores stores all of it, to expire.
func (p proof) stores(b valkey.Builder) (out valkey.Commands) {
	for _, part := range p.parts {
		for _, e := range []entry{part.gone, part.stays} {
			value := "probe"
			if part.raised {
				value = "1"
			}
			out = append(out, b.Set().Key(e.key).Value(value).Px(probeLife).Build())
			switch {
			case e.set == "":
				continue
			case e.scores:
				out = append(out, b.Zadd().Key(e.set).ScoreMember().ScoreMember(-1, e.member).Build())
			default:
				out = append(out, b.Sadd().Key(e.set).Member(e.member).Build())
			}
			out = append(out, b.Pexpire().Key(e.set).Milliseconds(probeLife.Milliseconds()).Build())
		}
	}
	return out
}

// judge reports what of a part is there and should not be, or the other way round.
func (s *Sink) judge(ctx context.Context, l *link, part proofPart) error {
	keys := []string{part.gone.key, part.gone.set, part.stays.key, part.stays.set}
	held := map[string]int64{}
	for _, key := range keys {
		if key == "" {
			continue
		}
		n, err := s.pipeline(ctx, l, valkey.Commands{l.B().Exists().Key(key).Build()})[0].AsInt64()
		if err != nil {
			return s.probeError("reading a probe", err)
		}
		held[key] = n
	}
	problem := ""
	switch {
	case part.raised:
		value, err := s.pipeline(ctx, l, valkey.Commands{l.B().Get().Key(part.gone.key).Build()})[0].ToString()
		if err != nil {
			return s.probeError("reading a probe", err)
		}
		if value == "1" {
			problem = "the counter was not raised"
		}
	case held[part.gone.key] != 0:
		problem = "the entry is still there"
	case part.gone.set != "" && held[part.gone.set] != 0:
		problem = "the set of the tag is still there"
	}
	if problem == "" && (held[part.stays.key] != 1 || part.stays.set != "" && held[part.stays.set] != 1) {
		problem = "an entry that it does not name is gone, too"
	}
	if problem == "" {
		return nil
	}
	return fmt.Errorf("valkey: probe of %s: the purge succeeded, but %s", part.what, problem)
}

// removeProof removes what is left, also of a probe that was stopped.
func (s *Sink) removeProof(ctx context.Context, l *link, p proof) {
	ctx = context.WithoutCancel(ctx)
	var out valkey.Commands
	for _, part := range p.parts {
		for _, key := range []string{part.gone.key, part.gone.set, part.stays.key, part.stays.set} {
			if key != "" {
				out = append(out, l.B().Unlink().Key(key).Build())
			}
		}
	}
	s.pipeline(ctx, l, out)
}

// probeError names the grants of a probe, which purges do without.
func (s *Sink) probeError(doing string, err error) error {
	if reply, ok := valkey.IsValkeyErr(err); ok && strings.HasPrefix(reply.Error(), "NOPERM") && !isKeyDenied(err) {
		return sinks.LaneError(fmt.Errorf("valkey: %s: %s; for the probe, as a user who may, run: %s", doing, lacking, s.cfg.probeGrant()))
	}
	return s.classify(doing, err)
}

// probeGrant is the ACL line for what a probe needs beside the purges.
func (c Config) probeGrant() string {
	words := []string{"+exists", "+set"}
	if c.uses(invalidation.Generation) {
		words = append(words, "+get")
	}
	if c.uses(invalidation.Tag) {
		words = append(words, "+pexpire")
		for _, t := range c.TagSets {
			if l, _ := t.kind(); l.scores {
				words = append(words, "+zadd")
			} else {
				words = append(words, "+sadd")
			}
		}
	}
	slices.Sort(words)
	return strings.Join(append([]string{"ACL", "SETUSER", c.user()}, slices.Compact(words)...), " ")
}
