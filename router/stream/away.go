package stream

import (
	"context"
	"encoding/hex"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// away is the note of a replica, whose name may hold what a subject cannot.
func (s *Stream) away(replica string) string {
	return acceptedSubject(s.cfg.Pipeline, invalidation.FlushReplica, hex.EncodeToString([]byte(replica)))
}

// ReplicaAway reports whether a replica is noted as away.
func (s *Stream) ReplicaAway(ctx context.Context, replica string) (bool, error) {
	n, err := s.readNote(ctx, s.away(replica))
	return n > 0, err
}

// ReplicaLeft notes durably that a replica is away.
func (s *Stream) ReplicaLeft(ctx context.Context, replica string) error {
	if err := s.note(ctx, s.away(replica), 1); err != nil {
		return err
	}
	return s.sync()
}

// ReplicaReturned stores a flush for every sink, and forgets that the replica was
// away once that is durable. After a crash in between both are done again.
func (s *Stream) ReplicaReturned(ctx context.Context, replica string, sinks []string) error {
	for _, sink := range sinks {
		if _, err := s.Flush(ctx, sink, invalidation.FlushReplica); err != nil {
			return err
		}
	}
	if err := s.note(ctx, s.away(replica), 0); err != nil {
		return err
	}
	return s.sync()
}
