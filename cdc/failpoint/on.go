//go:build failpoints

package failpoint

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

var armed = sync.OnceValue(func() []string {
	return strings.Split(os.Getenv("WALPURGE_FAILPOINTS"), ",")
})

// On reports whether the named misbehaviour is asked for.
func On(name string) bool { return slices.Contains(armed(), name) }

// Die ends the process as a crash would where the named misbehaviour is asked for.
func Die(name string) {
	if On(name) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
