package stream

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// oldestServer is the first version that has all that is relied on, above all a
// consumer that can be set back to its floor, and no known way to lose what it
// acknowledged.
var oldestServer = [3]int{2, 14, 6}

// supported refuses a server that is too old.
func supported(nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	if older(version, oldestServer) {
		return fmt.Errorf("the NATS server is version %s; upgrade it to %d.%d.%d or newer", version, oldestServer[0], oldestServer[1], oldestServer[2])
	}
	return nil
}

// older compares the numbers of a version; one that cannot be read is not older.
func older(version string, than [3]int) bool {
	numbers, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	for i, text := range strings.SplitN(numbers, ".", 3) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return false
		}
		if n != than[i] {
			return n < than[i]
		}
	}
	return false
}
