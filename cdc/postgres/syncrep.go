package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/standbynames"
)

// syncNames is the part of synchronous_standby_names that concerns this process. PostgreSQL counts
// every streaming connection that the setting can name and that reports a flush position as a
// synchronous standby: a commit may wait for it, or be acknowledged by it in the place of a
// standby. A connection that reports 0 does not count (SyncRepGetCandidateStandbys and
// SyncRepReleaseWaiters in syncrep.c), and does not move its slot by what it reports.
type syncNames struct {
	conditions *condition.Log

	mu    sync.Mutex
	names string
	// changed is closed when names changes.
	changed chan struct{}
}

func newSyncNames(conditions *condition.Log) *syncNames {
	return &syncNames{conditions: conditions, changed: make(chan struct{})}
}

// readSyncNames returns the value of synchronous_standby_names if it can name a connection of
// this configuration, and an empty string otherwise.
func readSyncNames(ctx context.Context, conn *pgx.Conn) (string, error) {
	var names, application string
	err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.current_setting('application_name')").
		Scan(&names, &application)
	if err != nil {
		return "", fmt.Errorf("read synchronous_standby_names: %w", err)
	}
	matches, err := standbynames.Match(names, application)
	if err != nil || matches {
		return names, nil // a value that only the server understands may be one that names us
	}
	return "", nil
}

// read updates the setting from the server.
func (s *syncNames) read(ctx context.Context, conn *pgx.Conn) error {
	names, err := readSyncNames(ctx, conn)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if names == s.names {
		return nil
	}
	s.names = names
	close(s.changed)
	s.changed = make(chan struct{})
	if names == "" {
		s.conditions.At(namedSynchronous).End()
	} else {
		s.conditions.At(namedSynchronous).Observe("synchronous_standby_names", names, "fix", syncNamesFix)
	}
	return nil
}

// named returns the setting while it can name this process, and a channel that is closed when
// that changes.
func (s *syncNames) named() (names string, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names, s.changed
}

// counts reports whether a flush position that is reported now can concern commits.
func (s *syncNames) counts() bool {
	names, _ := s.named()
	return names != ""
}

const syncNamesFix = "list the application_name of each standby in the place of *, and no name of walpurge: " +
	"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (STANDBY, STANDBY)'; SELECT pg_reload_conf();"

// SyncNamesNote says, for `walpurge check`, that synchronous_standby_names can name this pipeline;
// it is empty otherwise.
func (c Config) SyncNamesNote(ctx context.Context, conn *pgx.Conn) (string, error) {
	names, err := readSyncNames(ctx, conn)
	if err != nil || names == "" {
		return "", err
	}
	return SyncNamesText(names), nil
}

// SyncNamesText says what follows from a synchronous_standby_names that can name this pipeline.
func SyncNamesText(names string) string {
	return fmt.Sprintf("synchronous_standby_names = '%s' can name walpurge, which is no standby: it reports no flush position, so that no commit depends on it, "+
		"and confirms its slot once a minute; to end that, %s", names, syncNamesFix)
}

// SyncNames returns the value of synchronous_standby_names while it can name this reader's
// connection, else an empty string.
func (r *Reader) SyncNames() string {
	names, _ := r.syncNames.named()
	return names
}
