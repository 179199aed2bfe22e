package valkey

import (
	"cmp"
	"context"

	"github.com/valkey-io/valkey-go"
)

const (
	// keysPerCommand bounds how long one UNLINK holds up a standalone server.
	keysPerCommand = 500
	// commandsPerPipeline bounds what is in flight at once.
	commandsPerPipeline = 1000
)

// unlink unlinks the keys and puts what failed into failed, by place. It returns
// the error of a connection that is of no use any more.
//
// A cluster gets one key per command: keys of several slots may not share one,
// and the client sorts commands by node.
func (s *Sink) unlink(ctx context.Context, client valkey.Client, lists []work, failed failures) (broken error) {
	per := keysPerCommand
	if client.Mode() == valkey.ClientModeCluster {
		per = 1
	}
	var chunks []work
	for _, keys := range lists {
		chunks = append(chunks, keys.chunks(per)...)
	}
	denied, broken := s.pipelines(ctx, client, chunks, failed)

	// A command is refused whole when one of its keys is not allowed. Alone,
	// the other keys go through and the refused ones are named.
	var alone []work
	for _, c := range denied {
		alone = append(alone, c.chunks(1)...)
	}
	denied, lost := s.pipelines(ctx, client, alone, failed)
	for _, c := range denied {
		failed[c.places[0]] = s.classify("UNLINK", errKeyDenied)
	}
	return cmp.Or(broken, lost)
}

// pipelines sends one UNLINK per chunk and returns the chunks that were refused
// because of a key's name.
func (s *Sink) pipelines(ctx context.Context, client valkey.Client, chunks []work, failed failures) (denied []work, broken error) {
	for len(chunks) > 0 {
		n := min(len(chunks), commandsPerPipeline)
		for i, err := range s.send(ctx, client, chunks[:n]) {
			switch {
			case err == nil:
				continue
			case isKeyDenied(err):
				denied = append(denied, chunks[i])
				continue
			case !isReply(err):
				broken = s.classify("UNLINK", err)
			}
			failed.all(chunks[i], s.classify("UNLINK", err))
		}
		chunks = chunks[n:]
		if broken != nil {
			// The rest would each wait for the same silence.
			for _, c := range chunks {
				failed.all(c, broken)
			}
			return denied, broken
		}
	}
	return denied, nil
}

func (f failures) all(chunk work, err error) {
	for _, place := range chunk.places {
		f[place] = err
	}
}

// send sends one pipeline and returns an error or nil for every chunk.
func (s *Sink) send(ctx context.Context, client valkey.Client, chunks []work) []error {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	cmds := make(valkey.Commands, len(chunks))
	for i, c := range chunks {
		cmds[i] = client.B().Unlink().Key(c.keys...).Build()
	}
	errs := make([]error, len(chunks))
	for i, reply := range client.DoMulti(ctx, cmds...) {
		// Anything but a count is not an answer to UNLINK.
		var existed int64
		if existed, errs[i] = reply.AsInt64(); errs[i] == nil {
			s.hit(chunks[i], int(existed))
		}
	}
	return errs
}
