package valkey

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// PublishConfig says where the values of each purge are published.
type PublishConfig struct {
	// Channel is the Pub/Sub channel; empty publishes nothing.
	Channel string `yaml:"channel"`
}

const (
	// valuesPerMessage and bytesPerMessage bound a message; one value always fits.
	valuesPerMessage = 500
	bytesPerMessage  = 256 << 10
	// messagesWaiting bounds what waits for the server. What comes on top of it is dropped.
	messagesWaiting = 1024
)

// messageLayout is how a message holds what was purged. Kinds without values are left out.
var messageLayout = invalidation.NewLayout(invalidation.AllKinds, 0, invalidation.Key, invalidation.Field, invalidation.Tag, invalidation.Generation)

// messages are those of a batch, without the values that failed.
func messages(batch []invalidation.Invalidation, failed failures) [][]byte {
	var out [][]byte
	purged, values, bytes := invalidation.Values{}, 0, 0
	end := func() {
		if values > 0 {
			out = append(out, append(messageLayout.Append([]byte(`{"v":1`), &purged), '}'))
		}
		purged, values, bytes = invalidation.Values{}, 0, 0
	}
	for i, inv := range batch {
		if failed[i] != nil {
			continue
		}
		if values >= valuesPerMessage || bytes+len(inv.Value) > bytesPerMessage {
			end()
		}
		purged[inv.Kind] = append(purged[inv.Kind], inv.Value)
		values++
		bytes += len(inv.Value)
	}
	end()
	return out
}

// publisher sends messages in their order, at most once each, so that no purge waits for one.
type publisher struct {
	s     *Sink
	start sync.Once
	queue chan outgoing
	stop  context.CancelFunc
	done  chan struct{}
	life  context.Context
}

// outgoing is a message and the connection whose purge it tells of.
type outgoing struct {
	client  valkey.Client
	payload []byte
}

func newPublisher(s *Sink) *publisher {
	life, stop := context.WithCancel(context.Background())
	return &publisher{s: s, queue: make(chan outgoing, messagesWaiting), life: life, stop: stop, done: make(chan struct{})}
}

var notPublished = condition.Text{Level: slog.LevelWarn, On: "messages about purges cannot be published, they are lost", Off: "messages about purges are published again"}

var errTooMany = errors.New("too many messages wait for the server")

// publish hands over the messages of a purge, and never blocks.
func (p *publisher) publish(client valkey.Client, batch []invalidation.Invalidation, failed failures) {
	if p.s.cfg.Publish.Channel == "" {
		return
	}
	p.start.Do(func() { go p.run() })
	for _, payload := range messages(batch, failed) {
		select {
		case p.queue <- outgoing{client, payload}:
		default:
			p.told(errTooMany)
		}
	}
}

func (p *publisher) run() {
	defer close(p.done)
	for {
		select {
		case m := <-p.queue:
			ctx, cancel := context.WithTimeout(p.life, p.s.patience.reply)
			// Not again: a message that is sent twice tells of a purge that was not.
			cmd := m.client.B().Publish().Channel(p.s.cfg.Publish.Channel).Message(string(m.payload)).Build()
			err := m.client.Do(ctx, cmd).Error()
			cancel()
			if p.life.Err() == nil {
				p.told(err)
			}
		case <-p.life.Done():
			return
		}
	}
}

// told counts a message, and logs that they fail.
func (p *publisher) told(err error) {
	if p.s.cfg.Published != nil {
		p.s.cfg.Published(err == nil)
	}
	if err == nil {
		p.s.conditions.At(notPublished).End()
		return
	}
	if !errors.Is(err, errTooMany) {
		err = p.s.classify(publishing, err)
	}
	p.s.conditions.At(notPublished).Observe("err", err, "messages", condition.Sum(1))
}

// close drops what was not sent.
func (p *publisher) close() {
	p.stop()
	p.start.Do(func() { close(p.done) })
	<-p.done
}
