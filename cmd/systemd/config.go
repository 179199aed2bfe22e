package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// Config is what the manager is told, and where.
type Config struct {
	// Socket is a path, or the name of an abstract socket after an @; empty means
	// that nobody listens.
	Socket string
	// Watchdog is the time after which the manager ends a daemon that said
	// nothing; 0 means that it does not.
	Watchdog time.Duration
	// Poll is how often Ready is asked until it is so; 0 means 200ms.
	Poll time.Duration
	// Ready and Alive return why not, or nil.
	Ready func() error
	Alive func() error
	// Summary is shown by systemctl status; nil means none.
	Summary func(ctx context.Context) string
	Logger  *slog.Logger
}

// Environment reads Socket and Watchdog from the variables that sd_notify(3) and
// sd_watchdog_enabled(3) name. A watchdog that is meant for another process is
// none. An unreadable number is an error.
func (c *Config) Environment(lookup func(string) (string, bool), pid int) error {
	c.Socket, _ = lookup("NOTIFY_SOCKET")
	c.Watchdog = 0
	text, set := lookup("WATCHDOG_USEC")
	if !set || text == "" {
		return nil
	}
	if whose, named := lookup("WATCHDOG_PID"); named && whose != strconv.Itoa(pid) {
		return nil
	}
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 || usec > int64(maxWatchdog/time.Microsecond) {
		return fmt.Errorf("WATCHDOG_USEC is %q, want microseconds above 0; the service manager sets it from WatchdogSec", text)
	}
	c.Watchdog = time.Duration(usec) * time.Microsecond
	return nil
}

// maxWatchdog keeps the arithmetic of times away from its end.
const maxWatchdog = 365 * 24 * time.Hour
