package valkey

import (
	"context"

	"github.com/valkey-io/valkey-go"
)

// repliesPerPipeline is less than commandsPerPipeline: a script or a portion of a
// set takes the server longer than an UNLINK.
const repliesPerPipeline = 200

// replies sends commands in pipelines of repliesPerPipeline and returns the reply
// of each. Once the connection is of no use, the commands not yet sent
// are given its error: each would wait for the same silence.
func (s *Sink) replies(ctx context.Context, client valkey.Client, cmds valkey.Commands) (out []valkey.ValkeyResult, broken error) {
	out = make([]valkey.ValkeyResult, 0, len(cmds))
	for len(cmds) > 0 && broken == nil {
		n := min(len(cmds), repliesPerPipeline)
		for _, r := range s.pipeline(ctx, client, cmds[:n]) {
			if err := r.NonValkeyError(); err != nil {
				broken = err
			}
			out = append(out, r)
		}
		cmds = cmds[n:]
	}
	for range cmds {
		out = append(out, valkey.NewErrorResult(broken))
	}
	return out, broken
}

func (s *Sink) pipeline(ctx context.Context, client valkey.Client, cmds valkey.Commands) []valkey.ValkeyResult {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	return client.DoMulti(ctx, cmds...)
}
