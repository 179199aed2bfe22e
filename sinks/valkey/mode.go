package valkey

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// The modes. Server calls them so too, in its answer to HELLO.
const (
	auto       = "auto"
	standalone = "standalone"
	cluster    = "cluster"
	sentinel   = "sentinel"
)

// mode is what the file says, or what follows from it; auto if the server is to
// be asked.
func (c Config) mode() string {
	if c.Mode != "" && c.Mode != auto {
		return c.Mode
	}
	if c.SentinelMaster != "" {
		return sentinel
	}
	if ep, err := parseURL(c.URL); err == nil && len(ep.addrs) > 1 {
		return cluster
	}
	return auto
}

func (c Config) endpoint() (endpoint, error) {
	if c.mode() == sentinel {
		return parse(c.URL, sentinelPort)
	}
	return parseURL(c.URL)
}

// ClearText returns the hosts of the URL that are reached without TLS.
func (c Config) ClearText() (hosts []string) {
	ep, err := c.endpoint()
	if err != nil || ep.tls || ep.network != "tcp" {
		return nil
	}
	for _, addr := range ep.addrs {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func (c Config) validateMode(ep endpoint, known bool) (errs []error) {
	modes := []string{auto, standalone, cluster, sentinel}
	if c.Mode != "" && !slices.Contains(modes, c.Mode) {
		return []error{fmt.Errorf("mode: no such mode; write one of %s", strings.Join(modes, ", "))}
	}
	switch mode := c.mode(); {
	case mode == sentinel && c.SentinelMaster == "":
		errs = append(errs, errors.New("sentinel_master is missing; write the name by which the sentinels know the primary"))
	case mode != sentinel && c.SentinelMaster != "":
		errs = append(errs, fmt.Errorf("sentinel_master: mode is %s; write mode: sentinel, or take it out", mode))
	case mode != sentinel && c.SentinelUsername != "":
		errs = append(errs, fmt.Errorf("sentinel_username: mode is %s; set sentinel_master, or take it out", mode))
	case mode != sentinel && c.SentinelPasswordFile != "":
		errs = append(errs, fmt.Errorf("sentinel_password_file: mode is %s; set sentinel_master, or take it out", mode))
	case mode != sentinel && c.SentinelTLS != nil:
		errs = append(errs, fmt.Errorf("sentinel_tls: mode is %s; set sentinel_master, or take it out", mode))
	case mode == sentinel && known && ep.network != "tcp":
		errs = append(errs, errors.New("url: sentinels are reached by host and port; write valkey://a:26379,b:26379"))
	case mode == standalone && len(ep.addrs) > 1:
		errs = append(errs, errors.New("url: mode is standalone and there are several hosts; name one"))
	case mode == cluster && known && ep.database != 0:
		errs = append(errs, errors.New("url: a cluster has only database 0; take the database out"))
	}
	return errs
}

// hello asks a server what it is and what it does: the mode, and master or
// replica. HELLO without arguments changes nothing, and the client needs the
// right to it anyway.
func (s *Sink) hello(ctx context.Context, client valkey.Client) (mode, role string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.reply)
	defer cancel()
	info, err := client.Do(ctx, client.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		return "", "", err
	}
	told := info["mode"]
	if mode, err = told.ToString(); err != nil {
		return "", "", err
	}
	told = info["role"]
	role, err = told.ToString()
	return mode, role, err
}
