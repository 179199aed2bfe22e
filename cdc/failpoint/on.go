//go:build failpoints

package failpoint

import (
	"os"
	"slices"
	"strings"
	"sync"
)

var armed = sync.OnceValue(func() []string {
	return strings.Split(os.Getenv("WALPURGE_FAILPOINTS"), ",")
})

// On reports whether the named misbehaviour is asked for.
func On(name string) bool { return slices.Contains(armed(), name) }
