package house

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manager is a service manager that writes down what daemons say to it.
type manager struct {
	*testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	// The name of a socket holds 107 bytes, which t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "notify")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &manager{T: t, path: filepath.Join(dir, "s")}
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

// hears waits until a datagram begins with the assignment.
func (m *manager) hears(assignment string) {
	m.Helper()
	require.NoError(m, m.conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	b := make([]byte, 8192)
	for {
		n, err := m.conn.Read(b)
		require.NoError(m, err, "waiting for %s", assignment)
		if strings.HasPrefix(string(b[:n]), assignment) {
			return
		}
	}
}
