package valkey

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/sinks/history"
)

// ErrNotTold says that the server does not tell its history, so that a return of what was purged
// would not be noticed.
var ErrNotTold = errors.New("it would go unnoticed if the cache came back with what was purged")

// Nodes asks every primary how it describes itself. It blocks like a short Purge and may run beside
// one. An error that is ErrNotTold lasts until the user is granted INFO or the server is another one.
func (s *Sink) Nodes(ctx context.Context) ([]history.Node, error) {
	l, err := s.connected(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := s.nodes(ctx, l)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("valkey: reading the history stopped: %w", ctx.Err())
	}
	if err != nil && !errors.Is(err, ErrNotTold) {
		s.drop(l)
	}
	return nodes, err
}

func (s *Sink) nodes(ctx context.Context, client valkey.Client) ([]history.Node, error) {
	t, err := s.primaries(ctx, client)
	if err != nil {
		return nil, err
	}
	var out []history.Node
	for i, node := range t.nodes {
		n, err := s.describe(ctx, node)
		if err != nil {
			return nil, err
		}
		if len(t.ids) > 0 {
			n.ID = t.ids[i]
		}
		out = append(out, n)
	}
	return out, nil
}

// describe asks for three sections one by one: servers before Redis 7 take no list of them.
func (s *Sink) describe(ctx context.Context, node valkey.Client) (history.Node, error) {
	var cmds valkey.Commands
	for _, section := range []string{"server", "replication", "persistence"} {
		cmds = append(cmds, node.B().Info().Section(section).Build())
	}
	said := make(map[string]string)
	for _, r := range s.pipeline(ctx, node, cmds) {
		text, err := r.ToString()
		if err != nil {
			return history.Node{}, s.notTold(err)
		}
		for line := range strings.Lines(text) {
			if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
				said[name] = value
			}
		}
	}
	return describe(said)
}

// notTold classifies a refusal of INFO: by the user's permissions, or by a proxy that does not pass it on.
func (s *Sink) notTold(err error) error {
	reply, ok := valkey.IsValkeyErr(err)
	told := s.classify("INFO", err)
	if ok && (strings.HasPrefix(reply.Error(), "NOPERM") || strings.Contains(strings.ToLower(reply.Error()), "unknown command")) {
		return fmt.Errorf("%w: %w", ErrNotTold, told)
	}
	return told
}

// describe reads the fields of INFO.
func describe(said map[string]string) (n history.Node, err error) {
	switch {
	case said["loading"] == "1":
		return n, errors.New("valkey: the server is still loading its data")
	case said["role"] == "slave":
		return n, errors.New("valkey: the server is a replica")
	case said["run_id"] == "" || said["master_replid"] == "":
		return n, fmt.Errorf("valkey: INFO names no run_id or no master_replid: %w", ErrNotTold)
	}
	number := func(name string) int64 {
		v, perr := strconv.ParseInt(said[name], 10, 64)
		if perr != nil && err == nil {
			err = fmt.Errorf("valkey: INFO: %s is no number: %w", name, ErrNotTold)
		}
		return v
	}
	n = history.Node{
		Run: said["run_id"], Repl: said["master_replid"], Offset: number("master_repl_offset"),
		Uptime: time.Duration(number("uptime_in_seconds")) * time.Second,
		Saved:  number("rdb_last_save_time"), AOF: said["aof_enabled"] != "0", Loaded: -1,
	}
	// server_time_usec is there since Redis 6.
	n.SavedAge = time.Duration(number("server_time_usec"))*time.Microsecond - time.Duration(n.Saved)*time.Second
	if prior := said["master_replid2"]; strings.Trim(prior, "0") != "" {
		n.Prior, n.PriorOffset = prior, number("second_repl_offset")-1
	}
	if said["rdb_last_load_keys_loaded"] != "" {
		n.Loaded = number("rdb_last_load_keys_loaded") + number("rdb_last_load_keys_expired")
	}
	return n, err
}
