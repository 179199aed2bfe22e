package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// The range lies below the ports that Linux and macOS hand to outgoing
// connections, so that a server which is restarted on its old port does not
// find it taken by some client's socket.
const (
	lowestPort  = 15000
	highestPort = 32000
)

// drawn counts the ports that this process was given, from a place of its own in the range.
var drawn = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(highestPort - lowestPort))
	return &n
}()

// FreePort returns a TCP port that nothing listens on at 127.0.0.1. The same process is
// not given it again for long, because a server that was stopped wants its own back. Another
// process may take it before the caller does; the Start functions then try another one.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port := lowestPort + int(drawn.Add(1)%(highestPort-lowestPort))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("give back port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d on 127.0.0.1: %w", lowestPort, highestPort, last)
}
