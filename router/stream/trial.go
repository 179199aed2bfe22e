package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Error codes of the server (server/errors.json of nats-server) for limits and for what it lacks.
const (
	codeNoPeers          jetstream.ErrorCode = 10005
	codeNoResources      jetstream.ErrorCode = 10023
	codeMaxStreams       jetstream.ErrorCode = 10027
	codeAccountStorage   jetstream.ErrorCode = 10047
	codeReplicas         jetstream.ErrorCode = 10074
	codeAccountResources jetstream.ErrorCode = 10002
	codeMaximumConsumers jetstream.ErrorCode = 10026
	codeStorageExceeded  jetstream.ErrorCode = 10028
)

// trialTimeout bounds each operation of a trial.
const trialTimeout = 5 * time.Second

// Trial tries what a daemon does with the streams of a pipeline, in a scratch stream that it removes: create, publish,
// consume, acknowledge, delete. The streams themselves it only reads. Its errors name the subject to grant, or the limit
// to raise. denied hands over the subjects that the server refused the user, as the connection reports them.
func Trial(ctx context.Context, nc *nats.Conn, cfg Config, denied <-chan Denied) []error {
	if err := supported(nc); err != nil {
		return []error{err}
	}
	js, err := connect(nc, cfg.Domain)
	if err != nil {
		return []error{err}
	}
	t := trial{ctx: ctx, cfg: cfg, js: js, denied: denied}
	return t.run()
}

// Denied is a subject that the server refused the user of the connection.
type Denied struct {
	Subject string
	// Subscribe: the user may not subscribe to it, else not publish.
	Subscribe bool
}

func (d Denied) Error() string {
	verb := "publish"
	if d.Subscribe {
		verb = "subscribe"
	}
	return fmt.Sprintf("the user may not %s to %s; grant it in the user's permissions, %s: {allow: [%q]}", verb, d.Subject, verb, grant(d.Subject))
}

// grant is what to allow so that one subject of a kind and all like it are allowed.
func grant(subject string) string {
	parts := strings.Split(subject, ".")
	switch {
	case strings.HasPrefix(subject, "$JS.ACK.") && len(parts) > 3:
		return strings.Join(parts[:3], ".") + ".>"
	case strings.HasPrefix(subject, "_INBOX."):
		return "_INBOX.>"
	case parts[0] == "walpurge" && len(parts) > 2:
		return parts[0] + "." + parts[1] + ".>"
	}
	return subject
}

type trial struct {
	ctx    context.Context
	cfg    Config
	js     jetstream.JetStream
	denied <-chan Denied
	errs   []error
}

// do carries one operation out, and ends it when the server refuses the user a subject: the client waits for an answer
// that never comes then.
func (t *trial) do(what string, op func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(t.ctx, trialTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- op(ctx) }()
	var err error
	select {
	case err = <-done:
		if err != nil || t.js.Conn().FlushWithContext(ctx) != nil {
			break
		}
		select { // a denied acknowledgement is no error of the call
		case d := <-t.denied:
			err = d
		default:
		}
	case d := <-t.denied:
		cancel()
		<-done
		err = d
	}
	if err == nil {
		return true
	}
	t.errs = append(t.errs, fmt.Errorf("nats: %s: %w", what, t.explain(err)))
	return false
}

// explain says which limit or setting an error is about.
func (t *trial) explain(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		fix := "start the server with -js, or enable it for the account"
		if t.cfg.Domain != "" {
			fix += fmt.Sprintf("; or nats.domain is not %q", t.cfg.Domain)
		} else {
			fix += "; on a leaf node, set nats.domain to the domain of the servers with JetStream"
		}
		return fmt.Errorf("JetStream is off: %s: %w", fix, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", trialTimeout, err)
	case !errors.As(err, &api):
		return err
	}
	limit := func(format string, args ...any) error { return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err) }
	switch api.ErrorCode {
	case codeReplicas, codeNoPeers:
		return limit("the server cannot give nats.replicas: %d; set it to 1 for a single server, or add servers to the cluster", t.cfg.Replicas)
	case codeMaxStreams:
		return limit("the account may not have as many streams; the pipeline needs 3: raise its max_streams")
	case codeMaximumConsumers:
		return limit("the account may not have as many consumers; each sink needs two: raise its max_consumers")
	case codeAccountStorage, codeNoResources, codeAccountResources, codeStorageExceeded:
		return limit("there is no room for %d bytes in %d copies; raise the account's max_file or the server's max_file_store, or lower stream.max_bytes",
			StoreBytes(t.cfg.MaxBytes), t.cfg.Replicas)
	}
	return err
}

func (t *trial) run() []error {
	missing, bytes := 0, int64(1<<20)
	for _, name := range []string{streamName(t.cfg.Pipeline), parkedName(t.cfg.Pipeline), handName(t.cfg.Pipeline)} {
		t.do("read stream "+name, func(ctx context.Context) error {
			_, err := t.js.Stream(ctx, name)
			if !errors.Is(err, jetstream.ErrStreamNotFound) {
				return err
			}
			if missing++; missing == 1 {
				bytes = 0
			}
			if name == streamName(t.cfg.Pipeline) {
				bytes += t.cfg.MaxBytes
			} else {
				bytes += asideBytes(t.cfg.MaxBytes)
			}
			return nil
		})
		if len(t.errs) > 0 && missing == 0 && !t.permission() {
			return t.errs // JetStream is off, or does not answer
		}
	}
	t.account(missing)
	name := checkName(t.cfg.Pipeline)
	scratch := jetstream.StreamConfig{
		Name: name, Subjects: []string{checkSubject(t.cfg.Pipeline)}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
		MaxBytes: bytes, Replicas: t.cfg.Replicas,
	}
	var st jetstream.Stream
	before := len(t.errs)
	made := t.do("create a stream of the size that the pipeline needs", func(ctx context.Context) (err error) {
		_ = t.js.DeleteStream(ctx, name) // one that a killed check left
		st, err = t.js.CreateStream(ctx, scratch)
		return err
	})
	if !made {
		if api := (*jetstream.APIError)(nil); missing == 0 && errors.As(t.errs[before], &api) {
			t.errs = t.errs[:before] // the pipeline has its streams: a limit that keeps out one more does not concern it
		}
		return t.errs
	}
	if t.use(st) {
		t.do("delete a consumer", func(ctx context.Context) error { return st.DeleteConsumer(ctx, "check") })
	}
	t.do("delete a stream", func(ctx context.Context) error { return t.js.DeleteStream(ctx, name) })
	return t.errs
}

// permission reports that the newest error is a subject that the user lacks.
func (t *trial) permission() bool {
	var d Denied
	return errors.As(t.errs[len(t.errs)-1], &d)
}

// account compares the account's number of streams with its limit, if the user may read them.
func (t *trial) account(missing int) {
	ctx, cancel := context.WithTimeout(t.ctx, trialTimeout)
	defer cancel()
	answered := make(chan *jetstream.AccountInfo, 1)
	go func() {
		info, err := t.js.AccountInfo(ctx)
		if err != nil {
			info = nil
		}
		answered <- info
	}()
	select {
	case info := <-answered:
		if info != nil && info.Limits.MaxStreams > 0 && info.Streams+missing > info.Limits.MaxStreams {
			t.errs = append(t.errs, fmt.Errorf("nats: the account has %d of at most %d streams, and the pipeline needs %d more; raise its max_streams",
				info.Streams, info.Limits.MaxStreams, missing))
		}
	case <-t.denied: // the daemon does not need it
		cancel()
		<-answered
	}
}

// use publishes, reads and acknowledges, as publisher and lanes do.
func (t *trial) use(st jetstream.Stream) (consumed bool) {
	subject := checkSubject(t.cfg.Pipeline)
	published := t.do("publish", func(ctx context.Context) error {
		_, err := t.js.Publish(ctx, subject, []byte("check"))
		return err
	})
	if !published {
		return false
	}
	t.do("read a message", func(ctx context.Context) error {
		_, err := st.GetLastMsgForSubject(ctx, subject)
		return err
	})
	var cons jetstream.Consumer
	made := t.do("create a consumer", func(ctx context.Context) (err error) {
		cons, err = st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "check", AckPolicy: jetstream.AckExplicitPolicy})
		return err
	})
	if !made {
		return false
	}
	var msg jetstream.Msg
	if t.do("consume", func(ctx context.Context) error {
		batch, err := cons.Fetch(1, jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			msg = m
		}
		if msg == nil {
			return errors.Join(errors.New("no message came"), batch.Error())
		}
		return nil
	}) {
		t.do("acknowledge", msg.DoubleAck)
	}
	t.do("purge a stream", func(ctx context.Context) error { return st.Purge(ctx, jetstream.WithPurgeSubject(subject)) })
	return true
}
