package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"
)

// cached is the Valkey that is purged, seen from outside.
type cached struct{ valkey.Client }

func openCache(addr string) (cached, error) {
	c, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	return cached{c}, err
}

// fill puts the keys of the rows from one to another into the cache.
func (c cached) fill(ctx context.Context, from, to int) error {
	const script = "for id = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('SET', 'product:' .. id, '1') end return 1"
	return c.Do(ctx, c.B().Eval().Script(script).Numkeys(0).Arg(strconv.Itoa(from), strconv.Itoa(to)).Build()).Error()
}

// empty returns an error unless every key is gone.
func (c cached) empty(ctx context.Context) error {
	left, err := c.Do(ctx, c.B().Dbsize().Build()).ToInt64()
	if err == nil && left > 0 {
		err = fmt.Errorf("%d keys are left in the cache that was said to be purged", left)
	}
	return err
}

// watch notes which keys go, from its return until done is called.
func (c cached) watch(ctx context.Context) (gone *sightings, done func(), err error) {
	if err := c.Do(ctx, c.B().ConfigSet().ParameterValue().ParameterValue("notify-keyspace-events", "Eg").Build()).Error(); err != nil {
		return nil, nil, err
	}
	gone = newSightings()
	watching, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	ready := make(chan struct{})
	watcher.Go(func() {
		hooked := valkey.WithOnSubscriptionHook(watching, func(valkey.PubSubSubscription) { close(ready) })
		_ = c.Receive(hooked, c.B().Subscribe().Channel("__keyevent@0__:del").Build(), func(m valkey.PubSubMessage) { gone.see(m.Message) })
	})
	done = func() { cancel(); watcher.Wait() }
	select {
	case <-ready:
		return gone, done, nil
	case <-time.After(30 * time.Second):
		done()
		return nil, nil, errors.New("the cache does not tell what it deletes")
	}
}
