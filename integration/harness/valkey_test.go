package harness

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValkey(t *testing.T) {
	ctx := testContext(t)
	vk := startValkey(t, ValkeyConfig{Args: []string{"--maxmemory", "32mb"}})
	require.Equal(t, "valkey://"+vk.Addr()+"/0", vk.URL())
	require.Equal(t, "+OK", ask(t, vk, "SET k v"))
	require.Equal(t, "$1", ask(t, vk, "GET k"))

	addr, pid := vk.Addr(), vk.PID()
	require.NoError(t, vk.Kill())
	require.False(t, alive(pid))
	_, err := net.Dial("tcp", addr)
	require.Error(t, err)

	require.NoError(t, vk.Restart(ctx))
	require.Equal(t, addr, vk.Addr())
	require.Equal(t, "$-1", ask(t, vk, "GET k"), "no persistence")

	pid = vk.PID()
	require.NoError(t, vk.Stop(ctx))
	require.NoError(t, vk.Stop(ctx), "a stop of a stopped server")
	require.False(t, alive(pid))
	require.NoError(t, vk.Close())
	require.NoDirExists(t, vk.dir)
}

func TestValkeyPortTaken(t *testing.T) {
	ctx := testContext(t)
	vk := startValkey(t, ValkeyConfig{})
	other := startValkey(t, ValkeyConfig{})
	require.NoError(t, vk.Stop(ctx))
	var err error
	vk.port, err = portOf(other.Addr())
	require.NoError(t, err)
	require.ErrorIs(t, vk.launch(ctx), errPortTaken)
}

func TestValkeyStartFails(t *testing.T) {
	_, err := StartValkey(testContext(t), ValkeyConfig{Args: []string{"--no-such-option", "1"}})
	require.ErrorContains(t, err, "no-such-option")
}

// ask sends one inline command and returns the first line of the answer.
func ask(t *testing.T, vk *Valkey, command string) string {
	conn, err := net.Dial("tcp", vk.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, command+"\r\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

func portOf(addr string) (int, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}
