package valkey

import (
	"context"
	"errors"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// fields are the fields of a batch that one rule named in one hash: one command takes them.
type fields struct {
	rule, key string
	names     work // the names of the fields as its keys
}

// byHash groups the fields of a batch.
type byHash struct {
	index map[[2]string]int // by rule and key
	lists []fields
}

func (b *byHash) add(place int, prefix string, inv invalidation.Invalidation) {
	key, field := invalidation.SplitField(inv.Value)
	at := [2]string{inv.Rule, prefix + key}
	i, known := b.index[at]
	if !known {
		if b.index == nil {
			b.index = make(map[[2]string]int)
		}
		i = len(b.lists)
		b.index[at] = i
		b.lists = append(b.lists, fields{rule: at[0], key: at[1]})
	}
	b.lists[i].names.add(place, field)
}

// errNoHash is the fault of the one key, and no retry helps.
var errNoHash = sinks.ItemError(errors.New(
	"valkey: deleting a field: the key holds something else than a hash; correct the rule's key, or purge it with keys"))

// deleteFields deletes fields of hashes by HDEL and puts what failed into failed, by place. A
// command has one key, so a cluster takes each at its slot.
func (s *Sink) deleteFields(ctx context.Context, client valkey.Client, hashes []fields, failed failures) (broken error) {
	var commands []fields
	for _, h := range hashes {
		for _, names := range h.names.chunks(keysPerCommand) {
			commands = append(commands, fields{h.rule, h.key, names})
		}
	}
	cmds := make(valkey.Commands, len(commands))
	for i, c := range commands {
		cmds[i] = client.B().Hdel().Key(c.key).Field(c.names.keys...).Build()
	}
	replies, broken := s.replies(ctx, client, cmds)
	for i, r := range replies {
		names := commands[i].names
		names.rule = commands[i].rule
		switch existed, err := r.AsInt64(); {
		case err == nil:
			s.hit(names, int(existed))
		case isWrongType(err):
			failed.all(names, errNoHash)
		case isKeyDenied(err):
			failed.all(names, s.classify("HDEL", errKeyDenied))
		default:
			failed.all(names, s.classify("HDEL", err))
		}
	}
	if broken != nil {
		return s.classify("HDEL", broken)
	}
	return nil
}
