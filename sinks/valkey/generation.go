package valkey

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks"
)

// raiseScript sets a counter to max(held + 1, now in ms) and returns that, or -1
// if the key holds something else than a whole number below 2^53 (which is as far
// as Lua counts exactly).
//
// The clock makes a number that was never there before, so that a counter that
// was evicted or has expired cannot come back to a number under which entries
// are still stored. It is the server's: one clock per counter, whichever daemon
// raises it, and the same for readers that make a missing counter by TIME. What
// is replicated is the SET, not the script (effects replication: the default
// since version 5 and the only way since 7), so replicas hold the same number.
// A time to live that the application gave the counter is kept.
const raiseScript = `local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return -1 end
  return held
end
local clock = redis.call('TIME')
local value = clock[1] * 1000 + math.floor(clock[2] / 1000)
if held then
  if #held > 16 or not string.find(held, '^%d+$') or tonumber(held) >= 9007199254740991 then return -1 end
  value = math.max(value, tonumber(held) + 1)
end
redis.call('SET', KEYS[1], string.format('%.0f', value), 'KEEPTTL')
return value`

// probeScript runs every command of raiseScript, and changes nothing as long as
// its key does not exist.
const probeScript = `redis.call('GET', KEYS[1])
redis.call('TIME')
redis.call('SET', KEYS[1], '0', 'XX', 'KEEPTTL')
return 1`

func digest(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

// errNoCounter is the fault of the one counter, and no retry repairs it.
var errNoCounter = sinks.ItemError(errors.New(
	"valkey: raising a generation: the key holds something else than a whole number below 2^53; name another counter in the rule, or delete the key"))

// raise raises the counters and puts what failed into failed, by place. The
// script has one key, so a cluster takes each at its slot.
func (s *Sink) raise(ctx context.Context, client valkey.Client, counters work, failed failures) (broken error) {
	unknown, broken := s.raiseBy(ctx, client, counters, failed, func(key string) valkey.Completed {
		return client.B().Evalsha().Sha1(s.raiseSHA).Numkeys(1).Key(key).Build()
	})
	// A server that has restarted, or was told SCRIPT FLUSH, is given the text.
	if broken != nil {
		failed.all(unknown, s.classify("raising a generation", broken))
	} else if len(unknown.keys) > 0 {
		_, broken = s.raiseBy(ctx, client, unknown, failed, func(key string) valkey.Completed {
			return client.B().Eval().Script(raiseScript).Numkeys(1).Key(key).Build()
		})
	}
	return broken
}

// raiseBy returns the counters for which the server does not know the script.
func (s *Sink) raiseBy(ctx context.Context, client valkey.Client, counters work, failed failures, command func(key string) valkey.Completed) (unknown work, broken error) {
	cmds := make(valkey.Commands, len(counters.keys))
	for i, key := range counters.keys {
		cmds[i] = command(key)
	}
	replies, broken := s.replies(ctx, client, cmds)
	for i, r := range replies {
		place := counters.places[i]
		value, err := r.AsInt64()
		switch {
		case err == nil && value > 0:
		case err == nil:
			failed[place] = errNoCounter
		case isNoScript(err):
			unknown.add(place, counters.keys[i])
		case isKeyDenied(err):
			failed[place] = s.classify("raising a generation", errKeyDenied)
		default:
			failed[place] = s.classify("raising a generation", err)
		}
	}
	return unknown, broken
}
