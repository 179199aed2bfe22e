package valkey

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks"
)

const (
	// membersPerScan is the COUNT of one SSCAN or ZSCAN.
	membersPerScan = 500
	// setsAtOnce bounds how many sets are walked together, and with
	// membersPerScan the memory that their members take.
	setsAtOnce = 100
)

// tagSet is a set to purge for the tags at some places of the batch.
type tagSet struct {
	layout layout
	key    string
	aside  string
	places []int

	cursor uint64
	held   bool // the set aside had members
	packed bool // one of them, or of the set itself, has a form that is not known
	dead   bool // it has failed; other sets of its tags go on
}

func (f failures) set(t *tagSet, err error) {
	t.dead = true
	for _, place := range t.places {
		f[place] = err
	}
}

func dead(t *tagSet) bool { return t.dead }

var (
	// errNoSet is the fault of the one tag: its key belongs to something else.
	errNoSet = sinks.ItemError(errors.New(
		"valkey: purging a tag: the key of its set holds another type; correct tag_sets, or delete the key"))
	// errPacked is the fault of the tag's set: which entries it means cannot be read.
	errPacked = sinks.ItemError(errors.New(
		"valkey: purging a tag: its set has members that are compressed, or serialized in a form that is not known; " +
			"turn compression and serializer off for the connection that keeps tags, and purge again; the set stays"))
	errTwoPurgers = errors.New("valkey: purging a tag: another process is purging it; the purge is to be tried again")
)

// tagSets are the sets of tags, each once, whatever names it.
func (s *Sink) tagSets(tags work) []*tagSet {
	var out []*tagSet
	known := map[string]*tagSet{}
	for i, tag := range tags.keys {
		for _, l := range s.layouts {
			key := s.cfg.KeyPrefix + l.name(tag)
			t := known[key]
			if t == nil {
				t = &tagSet{layout: l, key: key, aside: s.asides.of(key)}
				known[key] = t
				out = append(out, t)
			}
			t.places = append(t.places, tags.places[i])
		}
	}
	return out
}

// purgeTags unlinks the members of the tags' sets and then the sets, and puts
// what failed into failed, by place.
//
// Each set is first renamed to one fixed name, its aside; a key that is added
// meanwhile begins a fresh set. The aside goes when the server has answered for
// its last member, and an aside that is found is walked before anything else: so
// whenever a purge is cut short, the next one finishes it. That takes one purger
// at a time, which is what a lane is.
func (s *Sink) purgeTags(ctx context.Context, client valkey.Client, tags work, failed failures) (broken error) {
	for sets := range slices.Chunk(s.tagSets(tags), setsAtOnce) {
		if broken == nil {
			broken = s.purgeSets(ctx, client, sets, failed)
		}
		if broken == nil {
			continue
		}
		// How far each set of the chunk had come is not worth knowing: a purge
		// that was done is only done again.
		for _, t := range sets {
			if !t.dead {
				failed.set(t, s.classify("purging a tag", broken))
			}
		}
	}
	return broken
}

// purgeSets returns the error of a connection that is of no use any more; what
// each set has come to is then open.
func (s *Sink) purgeSets(ctx context.Context, client valkey.Client, sets []*tagSet, failed failures) error {
	// What an earlier purge left.
	if err := s.walkSets(ctx, client, sets, aside, failed); err != nil {
		return err
	}
	stay, sets := split(sets)
	// RENAMENX would move any type: look first.
	full, err := s.each(ctx, client, sets, failed,
		func(t *tagSet) valkey.Completed { return t.layout.count(client.B(), t.key) },
		func(_ *tagSet, n int64) (bool, error) { return n > 0, nil })
	if err != nil {
		return err
	}
	moved, err := s.each(ctx, client, full, failed,
		func(t *tagSet) valkey.Completed { return client.B().Renamenx().Key(t.key).Newkey(t.aside).Build() },
		func(_ *tagSet, n int64) (bool, error) {
			if n == 0 {
				return false, errTwoPurgers
			}
			return true, nil
		})
	if err != nil {
		return err
	}
	if err := s.walkSets(ctx, client, moved, aside, failed); err != nil {
		return err
	}
	// Those whose members are not all known stay, under their own name if the application has not
	// begun another set under it; else the next purge finds both.
	packed, _ := split(moved)
	packed = append(packed, stay...)
	back := func(t *tagSet) valkey.Completed { return client.B().Renamenx().Key(t.aside).Newkey(t.key).Build() }
	if _, err := s.each(ctx, client, packed, failed, back, func(*tagSet, int64) (bool, error) { return true, nil }); err != nil {
		return err
	}
	if err := s.walkSets(ctx, client, stay, func(t *tagSet) string { return t.key }, failed); err != nil {
		return err
	}
	for _, t := range packed {
		failed.set(t, errPacked)
	}
	return nil
}

func aside(t *tagSet) string { return t.aside }

// split tells sets that have members of an unknown form from the others.
func split(sets []*tagSet) (packed, others []*tagSet) {
	for _, t := range sets {
		if t.packed {
			packed = append(packed, t)
		} else {
			others = append(others, t)
		}
	}
	return packed, others
}

// each sends one command for each set that has not failed, and returns the sets
// for which keep says so of the number that was answered.
func (s *Sink) each(ctx context.Context, client valkey.Client, sets []*tagSet, failed failures,
	command func(*tagSet) valkey.Completed, keep func(*tagSet, int64) (bool, error),
) (kept []*tagSet, broken error) {
	sets = slices.DeleteFunc(slices.Clone(sets), dead)
	cmds := make(valkey.Commands, len(sets))
	for i, t := range sets {
		cmds[i] = command(t)
	}
	replies, broken := s.replies(ctx, client, cmds)
	for i, r := range replies {
		n, err := r.AsInt64()
		if isNoKey(err) {
			continue // it went between two commands
		}
		if err != nil {
			failed.set(sets[i], s.tagError(err))
			continue
		}
		ok, err := keep(sets[i], n)
		if err != nil {
			failed.set(sets[i], err)
		}
		if ok {
			kept = append(kept, sets[i])
		}
	}
	return kept, broken
}

// walkSets unlinks the members of the sets of these names, and then the sets, except those that have
// members of an unknown form. A set that is not there is done.
func (s *Sink) walkSets(ctx context.Context, client valkey.Client, sets []*tagSet, name func(*tagSet) string, failed failures) error {
	left := slices.Clone(sets)
	for _, t := range left {
		t.cursor, t.held = 0, false
	}
	for len(left) > 0 {
		cmds := make(valkey.Commands, len(left))
		for i, t := range left {
			cmds[i] = t.layout.scan(client.B(), name(t), t.cursor)
		}
		replies, broken := s.replies(ctx, client, cmds)
		var members work
		for i, t := range left {
			entry, err := replies[i].AsScanEntry()
			if err != nil {
				failed.set(t, s.tagError(err))
				continue
			}
			t.cursor, t.held = entry.Cursor, t.held || len(entry.Elements) > 0
			for _, m := range t.layout.members(entry.Elements) {
				texts, known := unpack(m)
				t.packed = t.packed || t.layout.text && !known
				for _, text := range texts {
					s.memberKeys(text, func(key string) { members.add(i, key) })
				}
			}
		}
		if broken != nil {
			return broken // the sets aside stay, and are found
		}
		broken = s.unlinkFor(ctx, client, left, members, failed)
		var done work
		for i, t := range left {
			if t.cursor == 0 && t.held && !t.dead && !t.packed {
				done.add(i, name(t))
			}
		}
		if broken == nil {
			broken = s.unlinkFor(ctx, client, left, done, failed)
		}
		if broken != nil {
			return broken
		}
		left = slices.DeleteFunc(left, func(t *tagSet) bool { return t.cursor == 0 || t.dead })
	}
	return nil
}

// unlinkFor unlinks keys whose places are indices of sets.
func (s *Sink) unlinkFor(ctx context.Context, client valkey.Client, sets []*tagSet, keys work, failed failures) error {
	lost := failures{}
	broken := s.unlink(ctx, client, []work{keys}, lost)
	for i, err := range lost {
		failed.set(sets[i], err)
	}
	return broken
}

// memberKeys gives the keys that a member of a set can mean. Client libraries
// that put a prefix before keys leave members as they are, applications that do
// so manually write whole keys: a member that begins with the prefix may be
// either, so both go. Nothing without the prefix ever does.
func (s *Sink) memberKeys(member string, give func(key string)) {
	give(s.cfg.KeyPrefix + member)
	if s.cfg.KeyPrefix != "" && strings.HasPrefix(member, s.cfg.KeyPrefix) {
		give(member)
	}
}

func (s *Sink) tagError(err error) error {
	switch {
	case isWrongType(err):
		return errNoSet
	case isKeyDenied(err):
		return s.classify("purging a tag", errKeyDenied)
	}
	return s.classify("purging a tag", err)
}

func isWrongType(err error) bool {
	reply, ok := valkey.IsValkeyErr(err)
	return ok && strings.HasPrefix(reply.Error(), "WRONGTYPE")
}

// isNoKey is what RENAMENX says of a key that is not there.
func isNoKey(err error) bool {
	reply, ok := valkey.IsValkeyErr(err)
	return ok && reply.Error() == "no such key" // the library takes the ERR away
}
