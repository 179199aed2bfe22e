package valkey

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// topology is who holds which keys at one moment.
type topology struct {
	nodes []valkey.Client // one per primary
	ids   []string        // of the nodes, as the cluster names them; none without a cluster
	slots string          // slot ranges and the ids of their primaries
}

// primaries returns the nodes that hold all keys between them: the server
// itself, or the primaries of the cluster's slot table as any node tells it.
func (s *Sink) primaries(ctx context.Context, client valkey.Client) (topology, error) {
	if client.Mode() != valkey.ClientModeCluster {
		return topology{nodes: []valkey.Client{client}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	ranges, err := client.Do(ctx, client.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return topology{}, s.classify("CLUSTER SLOTS", err)
	}
	known := client.Nodes()
	seen := map[string]bool{}
	var t topology
	var lines []string
	for _, r := range ranges {
		sr, err := parseSlotRange(r)
		if err != nil {
			return topology{}, fmt.Errorf("valkey: CLUSTER SLOTS: %w", err)
		}
		lines = append(lines, fmt.Sprintf("%d-%d %s", sr.first, sr.last, sr.id))
		if seen[sr.id] {
			continue
		}
		seen[sr.id] = true
		node := sr.node(known)
		if node == nil {
			return topology{}, fmt.Errorf("valkey: the cluster names a primary at %s:%d that the client has not met yet; try again", sr.host, sr.port)
		}
		t.nodes, t.ids = append(t.nodes, node), append(t.ids, sr.id)
	}
	slices.Sort(lines)
	t.slots = strings.Join(lines, "\n")
	return t, nil
}

type slotRange struct {
	first, last int64
	host        string
	port        int64
	id          string
}

var errSlotTable = errors.New("the answer is not a slot table that names its nodes")

// parseSlotRange reads one element of CLUSTER SLOTS: first slot, last slot, the
// primary as host, port, id and more, then replicas.
func parseSlotRange(r valkey.ValkeyMessage) (sr slotRange, err error) {
	fields, err := r.ToArray()
	if err != nil || len(fields) < 3 {
		return sr, errSlotTable
	}
	primary, err := fields[2].ToArray()
	if err != nil || len(primary) < 3 {
		return sr, errSlotTable
	}
	var e1, e2, e3, e4 error
	sr.first, e1 = fields[0].AsInt64()
	sr.last, e2 = fields[1].AsInt64()
	sr.port, e3 = primary[1].AsInt64()
	sr.id, e4 = primary[2].ToString()
	if e1 != nil || e2 != nil || e3 != nil || e4 != nil {
		return sr, errSlotTable
	}
	if host, err := primary[0].ToString(); err == nil {
		sr.host = host
	}
	return sr, nil
}

// node finds the primary among the nodes that the client knows by address. A
// node that does not know its own address leaves the host empty; its port then
// has to do.
func (sr slotRange) node(known map[string]valkey.Client) valkey.Client {
	port := strconv.FormatInt(sr.port, 10)
	if sr.host != "" {
		return known[net.JoinHostPort(sr.host, port)]
	}
	for addr, node := range known {
		if _, p, err := net.SplitHostPort(addr); err == nil && p == port {
			return node
		}
	}
	return nil
}
