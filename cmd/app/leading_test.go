package app

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/config"
)

func TestWhereAListenerIsReached(t *testing.T) {
	for _, c := range []struct{ name, advertise, listening, host, want string }{
		{"as the file says", "https://walpurge.example", "127.0.0.1:7468", "node-a", "https://walpurge.example on host node-a"},
		{"one interface", "", "10.0.0.7:7468", "node-a", "10.0.0.7:7468 on host node-a"},
		{"loopback", "", "127.0.0.1:7468", "node-a", "127.0.0.1:7468 on host node-a"},
		{"every interface", "", "[::]:7468", "node-a", "node-a:7468"},
		{"every interface of IPv4", "", "0.0.0.0:7468", "node-a", "node-a:7468"},
		{"every interface of a host without a name", "", "[::]:7468", "", ""},
		{"every interface of a host whose name has a line break", "", "[::]:7468", "node a\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, reachedAt(config.HTTP{Advertise: c.advertise}, c.listening, c.host).String())
		})
	}
}

// What the stream says about the leader may have been written by anyone who can publish to it, and is printed.
func TestALeaderIsChecked(t *testing.T) {
	good := cdc.Leader{Address: "[fd00::7]:7468", Host: "shop-walpurge-0"}
	require.Equal(t, good, checkedLeader(good))
	for _, address := range []string{"a", "javascript://x:1", "https://user:secret@a", "a:1\nSTALE", "\x1b[2J:1", "0.0.0.0:1", strings.Repeat("a", 1<<20) + ":1"} {
		require.Empty(t, checkedLeader(cdc.Leader{Address: address}).Address, "%.40q", address)
	}
	for _, host := range []string{"a\nb", "\x1b[2J", "\u202ea", "\xff", strings.Repeat("a", 1<<20)} {
		require.Empty(t, checkedLeader(cdc.Leader{Host: host}).Host, "%.40q", host)
	}
}
