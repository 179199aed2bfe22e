package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// asNATS makes the test binary behave as a NATS server, so that tests can kill it.
const asNATS = "WALPURGE_TEST_AS_NATS"

// natsNode is one server of a cluster.
type natsNode struct {
	Name   string
	Listen string
	Routes []string // of all, the first is its own
	Dir    string
	// Accounts is part of a configuration: the daemon's account with its limits; empty: the server has none.
	Accounts string

	cmd *exec.Cmd
}

func (n *natsNode) log() string { return n.Dir + ".log" }

// serveNATS runs a server until it is killed.
func serveNATS(spec string) int {
	var n natsNode
	if err := json.Unmarshal([]byte(spec), &n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	host, port := hostPort(n.Listen)
	clusterHost, clusterPort := hostPort(n.Routes[0])
	var opts server.Options
	if n.Accounts != "" {
		if err := opts.ProcessConfigString(n.Accounts); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	opts.ServerName, opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs = n.Name, host, port, true, n.Dir, true
	opts.Cluster = server.ClusterOpts{Name: "walpurge", Host: clusterHost, Port: clusterPort}
	for _, r := range n.Routes[1:] {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: r})
	}
	opts.LogFile = n.log()
	s, err := server.NewServer(&opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return 0
}

func hostPort(addr string) (string, int) {
	host, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	return host, port
}

// natsCluster is three servers in processes of their own.
type natsCluster struct {
	t     *testing.T
	nodes []*natsNode
	// user is the daemon's user and password as in a URL.
	user string
}

// shopAccount is an account with just what a pipeline with nats.replicas: 3 and stream.max_bytes: 64MiB needs, beside one in
// which a user may do everything.
const shopAccount = `accounts: {
	SHOP: {jetstream: {max_streams: 4, max_file: 320M}, users: [{user: walpurge, password: "` + edgeToken + `"}]}
	OTHER: {jetstream: {}, users: [{user: other, password: p}]}
}`

// startCluster starts three servers, with accounts if it is given some.
func startCluster(t *testing.T, dir, accounts string) *natsCluster {
	t.Helper()
	c := &natsCluster{t: t}
	if accounts != "" {
		c.user = "walpurge:" + edgeToken + "@"
	}
	routes := []string{freeAddr(t), freeAddr(t), freeAddr(t)}
	for i := range 3 {
		n := &natsNode{Name: fmt.Sprintf("n%d", i), Listen: freeAddr(t), Dir: filepath.Join(dir, fmt.Sprintf("nats%d", i)), Accounts: accounts}
		n.Routes = append([]string{routes[i]}, append(append([]string{}, routes[:i]...), routes[i+1:]...)...)
		c.nodes = append(c.nodes, n)
		c.start(i)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			_ = n.cmd.Process.Kill()
			_ = n.cmd.Wait()
			if t.Failed() {
				text, err := os.ReadFile(n.log())
				t.Logf("%s %v: %s", n.Name, err, text[max(0, len(text)-4000):])
			}
		}
	})
	nc, err := nats.Connect(c.url(), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	eventually(t, 60*time.Second, func() bool {
		st, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "probe", Replicas: 3})
		if err != nil {
			return false
		}
		info, err := st.Info(t.Context())
		return err == nil && info.Cluster != nil && len(info.Cluster.Replicas) == 2
	}, "the cluster has a leader and three replicas")
	require.NoError(t, js.DeleteStream(t.Context(), "probe"))
	return c
}

func (c *natsCluster) start(i int) {
	c.t.Helper()
	n := c.nodes[i]
	spec, err := json.Marshal(n)
	require.NoError(c.t, err)
	n.cmd = exec.Command(os.Args[0])
	n.cmd.Env = append(os.Environ(), asNATS+"="+string(spec))
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(c.t, n.cmd.Start())
}

func (c *natsCluster) kill(i int) {
	c.t.Helper()
	require.NoError(c.t, c.nodes[i].cmd.Process.Kill())
	_ = c.nodes[i].cmd.Wait()
}

func (c *natsCluster) url() string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, "nats://"+c.user+n.Listen)
	}
	return strings.Join(all, ",")
}
