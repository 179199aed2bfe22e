package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// LaneInfo is a lane as the stream remembers it.
type LaneInfo struct {
	Sink string
	// Backlog reports that it has batches, or manual purges, that were not carried out.
	Backlog bool
}

// Lanes lists every lane that was ever opened and not closed for good, by name.
func (s *Stream) Lanes(ctx context.Context) ([]LaneInfo, error) {
	var out []LaneInfo
	list := s.stream.ListConsumers(ctx)
	for info := range list.Info() {
		seq, err := s.firstOwed(ctx, s.stream, info.Config, info.AckFloor.Stream)
		if err != nil {
			return nil, err
		}
		manual, err := s.owesManual(ctx, info.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, LaneInfo{Sink: info.Name, Backlog: seq > 0 || manual})
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list the lanes: %w", err)
	}
	slices.SortFunc(out, func(a, b LaneInfo) int { return cmp.Compare(a.Sink, b.Sink) })
	return out, nil
}

// CloseLane forgets a lane and its place. Its backlog is never purged.
func (s *Stream) CloseLane(ctx context.Context, sink string) error {
	if err := s.dropAllManual(ctx, sink); err != nil {
		return err
	}
	if err := s.hand.Purge(ctx, jetstream.WithPurgeSubject(historySubject(s.cfg.Pipeline, sink))); err != nil {
		return fmt.Errorf("close lane %s: %w", sink, err)
	}
	for _, from := range []jetstream.Stream{s.stream, s.hand} {
		if err := from.DeleteConsumer(ctx, sink); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("close lane %s: %w", sink, err)
		}
	}
	return nil
}

// purgeSubjects are the subjects of batches that a lane reads: its own, and
// those of lanes that it has adopted.
func (s *Stream) purgeSubjects(cfg jetstream.ConsumerConfig) []string {
	progress := progressSubject(s.cfg.Pipeline)
	return slices.DeleteFunc(slices.Clone(cfg.FilterSubjects), func(subject string) bool { return subject == progress })
}

// firstOwed is the sequence of the first batch of a lane beyond a floor, 0 for none.
func (s *Stream) firstOwed(ctx context.Context, from jetstream.Stream, cfg jetstream.ConsumerConfig, floor uint64) (first uint64, err error) {
	for _, subject := range s.purgeSubjects(cfg) {
		seq, err := firstUnpurged(ctx, from, subject, floor)
		if err != nil {
			return 0, err
		}
		if first == 0 || 0 < seq && seq < first {
			first = seq
		}
	}
	return first, nil
}

// firstUnpurged is the sequence of the first message of a subject beyond a floor, 0 for none. The
// answer is the stream's leader's, which has every message that was ever confirmed, as
// long as the stream does not allow direct gets: any replica would answer those.
func firstUnpurged(ctx context.Context, from jetstream.Stream, subject string, floor uint64) (uint64, error) {
	m, err := from.GetMsg(ctx, floor+1, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for the backlog of %s: %w", subject, err)
	}
	return m.Sequence, nil
}

// adopt opens the lane of a sink that had another name before: at the place
// where the old lane was, and with its batches. It has the same effect if it is
// done again, whether or not a crash came in between.
func (s *Stream) adopt(ctx context.Context, sink, formerly string, log *slog.Logger) error {
	old, err := s.stream.Consumer(ctx, formerly)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("adopt lane %s: %w", formerly, err)
	}
	heir, err := s.stream.Consumer(ctx, sink)
	switch {
	case err == nil && !slices.Contains(heir.CachedInfo().Config.FilterSubjects, purgeSubject(s.cfg.Pipeline, formerly)):
		return fmt.Errorf("sink %s cannot adopt the backlog of %s: it has a lane of its own already; let %s drain first, or drop its backlog with `retired: [%s]`",
			sink, formerly, formerly, formerly)
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		cfg := s.laneConfig(sink, append(s.purgeSubjects(old.CachedInfo().Config), purgeSubject(s.cfg.Pipeline, sink), progressSubject(s.cfg.Pipeline)))
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, old.CachedInfo().AckFloor.Stream+1
		if _, err := s.stream.CreateConsumer(ctx, cfg); err != nil {
			return fmt.Errorf("adopt lane %s: %w", formerly, err)
		}
	case err != nil:
		return fmt.Errorf("adopt lane %s: %w", formerly, err)
	}
	if err := s.adoptNotes(ctx, sink, formerly); err != nil {
		return err
	}
	if err := s.adoptManual(ctx, sink, formerly); err != nil {
		return err
	}
	log.Info("the lane goes on under a new name", "sink", sink, "formerly", formerly)
	return s.CloseLane(ctx, formerly)
}

// adoptNotes has the lane of the new name answer for the same losses as that of the old one, and know its
// cache.
func (s *Stream) adoptNotes(ctx context.Context, sink, formerly string) error {
	record, err := s.History(ctx, formerly)
	if err == nil && record != nil {
		err = s.StoreHistory(ctx, sink, record)
	}
	if err != nil {
		return err
	}
	for _, what := range []string{"head", "hole"} {
		seq, err := s.readNote(ctx, acceptedSubject(s.cfg.Pipeline, what, formerly))
		if err != nil {
			return err
		}
		if err := s.raiseNote(ctx, acceptedSubject(s.cfg.Pipeline, what, sink), seq); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) laneConfig(sink string, subjects []string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:        sink,
		FilterSubjects: subjects,
		AckPolicy:      jetstream.AckAllPolicy,
		AckWait:        ackWait,
		MaxAckPending:  maxUnacked,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	}
}

// openLane opens the durable consumer of a lane, or makes a new one. What it
// has adopted it keeps until that is purged.
func (s *Stream) openLane(ctx context.Context, from jetstream.Stream, sink string, subjects []string) (cons jetstream.Consumer, known bool, err error) {
	old, err := from.Consumer(ctx, sink)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		cons, err = from.CreateConsumer(ctx, s.laneConfig(sink, subjects))
		return askedConsumer{cons}, false, err
	}
	if err != nil {
		return nil, false, err
	}
	info := old.CachedInfo()
	for _, subject := range info.Config.FilterSubjects {
		if slices.Contains(subjects, subject) {
			continue
		}
		seq, err := firstUnpurged(ctx, from, subject, info.AckFloor.Stream)
		if err != nil {
			return nil, true, err
		}
		if seq > 0 {
			subjects = append(subjects, subject)
		}
	}
	cfg := s.laneConfig(sink, subjects)
	// Where a lane began cannot be changed.
	cfg.DeliverPolicy, cfg.OptStartSeq = info.Config.DeliverPolicy, info.Config.OptStartSeq
	cons, err = from.UpdateConsumer(ctx, cfg)
	return askedConsumer{cons}, true, err
}
