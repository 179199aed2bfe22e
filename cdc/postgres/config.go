package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Config says which database to read, and through which slot and publication.
type Config struct {
	// URL is a libpq URL or keyword string. PG* variables, pass files and
	// service files fill what it leaves out.
	URL string
	// PasswordFile is read again at every connect.
	PasswordFile string
	Slot         string
	Publication  string
	// Manage allows to create and widen the publication and to create the slot.
	Manage bool
	// Failover asks for a failover slot on PostgreSQL 17 and newer.
	Failover bool
	// MaxRetained bounds the log, in bytes, that the server keeps because of what
	// this pipeline has not confirmed; 0 is no bound. Past it the slot is moved to
	// the end of the log, which is a gap.
	MaxRetained int64
	// ColumnLists publishes only the columns that rules read, and those that identify a
	// row. It takes PostgreSQL 15.
	ColumnLists bool
	// Streaming has the server send large transactions while they run.
	Streaming bool
	// Heartbeat is the time between two messages written into the log.
	Heartbeat time.Duration
}

// DefaultConfig returns the configuration of a pipeline before its file is read.
func DefaultConfig(pipeline string) Config {
	return Config{
		Slot:        "walpurge_" + pipeline,
		Publication: "walpurge_" + pipeline,
		Manage:      true,
		Failover:    true,
		Streaming:   true,
		Heartbeat:   10 * time.Second,
	}
}

// minRetained is a segment of the log: less is kept whatever anybody confirms.
const minRetained = 16 << 20

// Names go into replication commands, which know no parameters, so only what
// PostgreSQL allows for a slot is allowed for both.
var nameForm = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// Validate reports every value that cannot work.
func (c Config) Validate() error {
	var errs []error
	if !nameForm.MatchString(c.Slot) {
		errs = append(errs, fmt.Errorf("postgres.slot %q: want 1 to 63 of a-z, 0-9 and _", c.Slot))
	}
	if !nameForm.MatchString(c.Publication) {
		errs = append(errs, fmt.Errorf("postgres.publication %q: want 1 to 63 of a-z, 0-9 and _", c.Publication))
	}
	if c.MaxRetained < 0 || c.MaxRetained > 0 && c.MaxRetained < minRetained {
		errs = append(errs, fmt.Errorf("postgres.max_retained: write 0 for no bound, or %d MiB or more: a slot always keeps a little", minRetained>>20))
	}
	if c.Heartbeat < 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("postgres.heartbeat %s: want 100ms or more", c.Heartbeat))
	}
	if _, err := c.primary(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
