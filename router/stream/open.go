package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
)

// Config shapes the stream of one pipeline.
type Config struct {
	Pipeline string
	// MaxBytes bounds the stream. MaxAge is how long it keeps messages that every
	// lane has acknowledged, for replays.
	MaxAge   time.Duration
	MaxBytes int64
	// Domain is the JetStream domain, empty for that of the server.
	Domain string
	// Replicas is 1 for an embedded server.
	Replicas int
	// Sync makes what was acknowledged durable and returns when it is. Nil if
	// the server does that by itself.
	Sync func() error
	// Shared: other processes may open the same lanes, and only one of them reads. A
	// lane then begins to read with the first call of Next.
	Shared bool
	// Tracer is told how long batches of traced transactions took to be stored. Nil:
	// there are no traces.
	Tracer Tracer
	// Leader is where this process is reached. Its claims name it, so that processes that stand by can tell who leads.
	Leader cdc.Leader
	// Broken is told of a gap that a lane finds. Nil: it is not reported.
	Broken func(cdc.Gap)
}

// size is how much a stream may hold, and how much it holds.
type size struct{ limit, held int64 }

// Tracer adds spans to traces.
type Tracer interface {
	Span(parent, name, sink string, began, ended time.Time)
}

// traceHeader carries the context of a trace with a batch (W3C Trace Context).
const traceHeader = "traceparent"

// Stream is a pipeline's stream on a connected server.
type Stream struct {
	cfg    Config
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	parked jetstream.Stream
	// sizes are those of the streams when they were opened, by name.
	sizes map[string]size
	// created is when each stream was made, by name.
	created map[string]time.Time
	refused error

	// key proves what this process publishes. epoch is the newest that it has opened, and first describes the
	// first, nil before. newestForged is the sequence of the newest claim that was found to be forged.
	key          proofKey
	epoch        atomic.Uint64
	first        atomic.Pointer[firstEpoch]
	newestForged atomic.Uint64

	// hand holds the manual purges, and notes.
	hand jetstream.Stream

	// manualMu serializes the publication of manual purges. manualNumbers are the highest
	// numbers that this process has given, by sink.
	manualMu      sync.Mutex
	manualNumbers map[string]uint64

	// unbuiltMu guards unbuilt and holds for as long as an item is replaced by another.
	unbuiltMu sync.Mutex
	// unbuilt are by sink the parked items of templates whose values could not be built; a sink is
	// read when it is first asked for.
	unbuilt map[string]map[unbuiltKey]uint64
}

// Open creates the pipeline's streams or brings them to the configured limits.
// It refuses a stream that acknowledges before it stores, and a server that is too old.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Stream, error) {
	if err := supported(nc); err != nil {
		return nil, err
	}
	js, err := connect(nc, cfg.Domain)
	if err != nil {
		return nil, err
	}
	return OpenOn(ctx, js, cfg)
}

// connect returns the JetStream of a domain.
func connect(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	opts := []jetstream.JetStreamOpt{jetstream.WithPublishAsyncMaxPending(4 * window), jetstream.WithPublishAsyncTimeout(askFor)}
	var js jetstream.JetStream
	var err error
	if domain == "" {
		js, err = jetstream.New(nc, opts...)
	} else {
		js, err = jetstream.NewWithDomain(nc, domain, opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return js, nil
}

// OpenOn does what Open does, on whatever keeps the streams: a server that Open has
// checked, or one that a test simulates. Of a Stream on the latter, Consumer and
// ManualConsumer need a real connection.
func OpenOn(ctx context.Context, js jetstream.JetStream, cfg Config) (*Stream, error) {
	name := streamName(cfg.Pipeline)
	if old, err := js.Stream(ctx, name); err == nil && old.CachedInfo().Config.PersistMode == jetstream.AsyncPersistMode {
		return nil, fmt.Errorf("stream %s has asynchronous persistence: it acknowledges what it has not stored; recreate it with persist_mode default", name)
	}
	discard := jetstream.DiscardNew
	if failpoint.On("stream_discards_old") {
		discard = jetstream.DiscardOld
	}
	s := &Stream{cfg: cfg, key: newProofKey(), nc: js.Conn(), js: js, sizes: make(map[string]size), created: make(map[string]time.Time), manualNumbers: make(map[string]uint64)}
	var err error
	if s.stream, err = s.openStream(ctx, jetstream.StreamConfig{
		Name:      name,
		Subjects:  []string{purgeSubject(cfg.Pipeline, "*"), progressSubject(cfg.Pipeline)},
		Retention: jetstream.LimitsPolicy,
		Discard:   discard,
		Storage:   jetstream.FileStorage,
		// Age is the Trimmer's business: the server would drop messages that no
		// lane has acknowledged.
		MaxBytes: cfg.MaxBytes,
		Replicas: cfg.Replicas,
		// No use is made of message ids: a batch published twice is purged twice.
		Duplicates: 100 * time.Millisecond,
	}); err != nil {
		return nil, err
	}
	s.cfg.MaxBytes = s.stream.CachedInfo().Config.MaxBytes
	if s.parked, err = s.aside(ctx, parkedName(cfg.Pipeline), parkedSubject(cfg.Pipeline, "*"), storedSubject(cfg.Pipeline, "*")); err != nil {
		return nil, err
	}
	if s.hand, err = s.aside(ctx, handName(cfg.Pipeline), handSubject(cfg.Pipeline, "*"),
		trimmedSubject(cfg.Pipeline), acceptedSubject(cfg.Pipeline, "*", "*")); err != nil {
		return nil, err
	}
	// What a process that was killed has written may be nowhere but in the kernel's memory.
	// Lanes act on what they find, and a power cut could keep what they did and not why.
	if err := s.sync(); err != nil {
		return nil, err
	}
	return s, nil
}

// aside opens a small stream that has room when the large one is full.
func (s *Stream) aside(ctx context.Context, name string, subjects ...string) (jetstream.Stream, error) {
	return s.openStream(ctx, jetstream.StreamConfig{
		Name:      name,
		Subjects:  subjects,
		Retention: jetstream.LimitsPolicy,
		Discard:   jetstream.DiscardNew,
		Storage:   jetstream.FileStorage,
		MaxBytes:  asideBytes(s.cfg.MaxBytes),
		Replicas:  s.cfg.Replicas,
	})
}

// openStream creates a stream or updates it. A smaller MaxBytes drops nothing: the server takes
// no message until what is there fits. Where the server refuses another MaxBytes, a stream
// that is as it must be otherwise goes on with the one that it has; see Refused.
func (s *Stream) openStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	if old, err := s.js.Stream(ctx, cfg.Name); err == nil {
		keepOperators(&cfg, old.CachedInfo().Config)
	}
	st, err := s.js.CreateOrUpdateStream(ctx, cfg)
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		st, err = s.openRefused(ctx, cfg, err)
	}
	if err != nil {
		if errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
			return nil, fmt.Errorf("the NATS server has no JetStream: start it with -js: %w", err)
		}
		return nil, fmt.Errorf("create stream %s: %w", cfg.Name, err)
	}
	info := st.CachedInfo()
	s.created[cfg.Name] = info.Created
	s.sizes[cfg.Name] = size{limit: info.Config.MaxBytes, held: int64(info.State.Bytes)}
	return askedStream{st}, nil
}

// keepOperators keeps what an operator may set on a stream and no lane depends on.
func keepOperators(cfg *jetstream.StreamConfig, old jetstream.StreamConfig) {
	cfg.Description, cfg.Metadata, cfg.Placement, cfg.Compression = old.Description, old.Metadata, old.Placement, old.Compression
}

// openRefused opens a stream whose update was refused with the size that it has, or returns
// why it was refused. An account that was given less than its streams reserve takes no update at
// all, not even one that changes nothing.
func (s *Stream) openRefused(ctx context.Context, cfg jetstream.StreamConfig, refused error) (jetstream.Stream, error) {
	st, err := s.js.Stream(ctx, cfg.Name)
	if err != nil {
		return nil, refused
	}
	old, wanted := st.CachedInfo().Config, cfg.MaxBytes
	cfg.MaxBytes = old.MaxBytes
	if updated, err := s.js.UpdateStream(ctx, cfg); err == nil {
		st = updated
	} else if !slices.Equal(old.Subjects, cfg.Subjects) || old.Retention != cfg.Retention || old.Discard != cfg.Discard ||
		old.Storage != cfg.Storage || old.Replicas != cfg.Replicas || old.AllowDirect {
		return nil, refused
	}
	if wanted != old.MaxBytes {
		s.refused = errors.Join(s.refused, fmt.Errorf("stream.max_bytes: the NATS server refuses %d bytes for stream %s: %w; %d bytes stay in force; "+
			"give the server or the account more room, or set another size", wanted, cfg.Name, refused, old.MaxBytes))
	}
	return st, nil
}

// Refused says which limits the server did not take, nil if it took all. The streams have
// those from before.
func (s *Stream) Refused() error { return s.refused }

// TryMaxBytes gives the streams another size while they are in use, or returns why the server
// refuses it and leaves them as they are. The Stream goes on as if it had the size from before.
func (s *Stream) TryMaxBytes(ctx context.Context, maxBytes int64) error {
	cfg := s.cfg
	cfg.MaxBytes = maxBytes
	tried, err := OpenOn(ctx, s.js, cfg)
	if err == nil {
		err = tried.refused
	}
	if err == nil {
		return nil
	}
	_, back := OpenOn(ctx, s.js, s.cfg)
	return errors.Join(err, back)
}

// MaxBytes is the size of the stream that is in force.
func (s *Stream) MaxBytes() int64 { return s.cfg.MaxBytes }

// asideBytes is the room for parked invalidations, and that for manual purges, beside a
// stream of a size.
func asideBytes(maxBytes int64) int64 { return max(maxBytes/16, 1<<20) }

// StoreBytes is the room that a pipeline's streams may take together.
func StoreBytes(maxBytes int64) int64 { return maxBytes + 2*asideBytes(maxBytes) + 3*maxSqueeze }

// Newest returns the newest claim of a pipeline's stream, or false where there is no stream or no claim. It
// creates and changes nothing.
func Newest(ctx context.Context, nc *nats.Conn, domain, pipeline string) (cdc.Claim, bool, error) {
	js, err := connect(nc, domain)
	if err != nil {
		return cdc.Claim{}, false, err
	}
	st, err := js.Stream(ctx, streamName(pipeline))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return cdc.Claim{}, false, nil
	}
	if err != nil {
		return cdc.Claim{}, false, fmt.Errorf("read stream %s: %w", streamName(pipeline), err)
	}
	s := Stream{cfg: Config{Pipeline: pipeline}, stream: askedStream{st}}
	claim, _, found, err := s.LastClaim(ctx)
	return claim, found, err
}

// LastClaim returns the newest claim in the stream and its sequence, or false
// without one. A message that is no claim counts as one that says nothing:
// its position and its epoch are zero.
func (s *Stream) LastClaim(ctx context.Context) (cdc.Claim, uint64, bool, error) {
	m, err := s.stream.GetLastMsgForSubject(ctx, progressSubject(s.cfg.Pipeline))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return cdc.Claim{}, 0, false, nil
	}
	if err != nil {
		return cdc.Claim{}, 0, false, fmt.Errorf("read the newest claim: %w", err)
	}
	c, err := decodeClaim(m.Data, s.key)
	if err != nil {
		return cdc.Claim{}, m.Sequence, true, nil
	}
	return c, m.Sequence, true, nil
}

// Usage is how full the stream is.
type Usage struct {
	Bytes, Limit int64
	Messages     uint64
	// Horizon is the age of the oldest message: how far back a replay reaches.
	Horizon time.Duration
}

// Usage asks the server.
func (s *Stream) Usage(ctx context.Context) (Usage, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Bytes: int64(info.State.Bytes), Limit: s.cfg.MaxBytes, Messages: info.State.Msgs}
	if info.State.Msgs > 0 {
		u.Horizon = time.Since(info.State.FirstTime)
	}
	return u, nil
}
