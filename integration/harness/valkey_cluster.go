package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ValkeySlots is how many slots a cluster has.
const ValkeySlots = 16384

// ValkeyCluster is a cluster of primaries without replicas.
type ValkeyCluster struct {
	// Nodes share the slots evenly, in their order, until MoveSlot.
	Nodes []*Valkey
}

// StartValkeyCluster starts a cluster of n primaries, with their files below dir
// or, when that is empty, in temporary directories that Close removes. It
// blocks until every node sees all slots served, or until ctx ends; after an
// error nothing is left running.
func StartValkeyCluster(ctx context.Context, dir string, n int) (*ValkeyCluster, error) {
	c := &ValkeyCluster{}
	if err := c.start(ctx, dir, n); err != nil {
		return nil, errors.Join(fmt.Errorf("start a cluster of Valkey: %w", err), c.Close())
	}
	return c, nil
}

func (c *ValkeyCluster) start(ctx context.Context, dir string, n int) error {
	var firstBus string
	for i := range n {
		port, err := FreePort()
		if err != nil {
			return err
		}
		bus := strconv.Itoa(port)
		cfg := ValkeyConfig{Args: []string{"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000"}}
		if dir != "" {
			cfg.Dir = filepath.Join(dir, strconv.Itoa(i))
		}
		node, err := StartValkey(ctx, cfg)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, node)
		if _, err := node.Ask(ctx, fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*ValkeySlots/n, (i+1)*ValkeySlots/n-1)); err != nil {
			return err
		}
		if i == 0 {
			firstBus = bus
			continue
		}
		if _, err := node.Ask(ctx, fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d %s", c.Nodes[0].port, firstBus)); err != nil {
			return err
		}
	}
	for _, node := range c.Nodes {
		for {
			state, err := node.Ask(ctx, "CLUSTER INFO")
			if err != nil {
				return err
			}
			if strings.Contains(state, "cluster_state:ok") && strings.Contains(state, "cluster_known_nodes:"+strconv.Itoa(n)+"\r") {
				break
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return fmt.Errorf("not ready in time: %w; its state: %s", err, state)
			}
		}
	}
	return nil
}

// BeginMove begins to move a slot: keys that MoveKeys has moved are at the other
// node, whose name clients are told for each (ASK).
func (c *ValkeyCluster) BeginMove(ctx context.Context, slot, from, to int) error {
	ids := make([]string, len(c.Nodes))
	for _, i := range []int{from, to} {
		var err error
		if ids[i], err = c.Nodes[i].Ask(ctx, "CLUSTER MYID"); err != nil {
			return err
		}
	}
	if _, err := c.Nodes[to].Ask(ctx, fmt.Sprintf("CLUSTER SETSLOT %d IMPORTING %s", slot, ids[from])); err != nil {
		return err
	}
	_, err := c.Nodes[from].Ask(ctx, fmt.Sprintf("CLUSTER SETSLOT %d MIGRATING %s", slot, ids[to]))
	return err
}

// MoveKeys moves keys of a slot that is being moved.
func (c *ValkeyCluster) MoveKeys(ctx context.Context, from, to int, keys ...string) error {
	_, err := c.Nodes[from].Ask(ctx, fmt.Sprintf("MIGRATE 127.0.0.1 %d \"\" 0 5000 KEYS %s", c.Nodes[to].port, strings.Join(keys, " ")))
	return err
}

// EndMove gives the slot to its new node, which must hold all of its keys.
func (c *ValkeyCluster) EndMove(ctx context.Context, slot, from, to int) error {
	id, err := c.Nodes[to].Ask(ctx, "CLUSTER MYID")
	if err != nil {
		return err
	}
	for _, i := range []int{to, from} {
		if _, err := c.Nodes[i].Ask(ctx, fmt.Sprintf("CLUSTER SETSLOT %d NODE %s", slot, id)); err != nil {
			return err
		}
	}
	return nil
}

// Close stops all nodes.
func (c *ValkeyCluster) Close() error {
	var errs []error
	for _, node := range c.Nodes {
		errs = append(errs, node.Close())
	}
	return errors.Join(errs...)
}

// Ask sends one command, written as on a command line, and returns a reply that
// is a text or a number. It blocks for the answer, at most ten seconds.
func (v *Valkey) Ask(ctx context.Context, command string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", v.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(line, "-"):
		return "", fmt.Errorf("%s: %s", command, line[1:])
	case strings.HasPrefix(line, "+"), strings.HasPrefix(line, ":"):
		return line[1:], nil
	case strings.HasPrefix(line, "$"):
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n)
		_, err = io.ReadFull(r, text)
		return string(text), err
	}
	return "", fmt.Errorf("%s: the reply is no text: %s", command, line)
}
