package varnish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/sinks/httpsink"
)

// node is one entry of the configuration.
type node struct {
	scheme string // http or https
	// host is the host with its port, if it has one.
	host string
	// dns asks for all addresses of the name.
	dns bool
}

func parseNode(text string) (node, error) {
	text, dns := strings.CutPrefix(text, "dns+")
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || !httpsink.IsHost(u.Host):
		return node{}, errors.New("write it as http://host:port, or dns+http://host:port for every address of the name")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return node{}, errors.New("no user, password, path, query or fragment belongs here")
	case dns && u.Scheme == "https":
		return node{}, errors.New("dns+https cannot be used, as no certificate is for an address; write dns+http, or name the nodes one by one")
	}
	return node{scheme: u.Scheme, host: strings.ToLower(u.Host), dns: dns}, nil
}

// server is one address to be purged.
type server struct{ scheme, host string }

// lookup finds all addresses of a name.
type lookup func(ctx context.Context, name string) ([]netip.Addr, error)

func systemLookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// servers returns the servers that the node has now. Names are resolved at every
// call: what was an address of the name yesterday may be another server's today.
func (n node) servers(ctx context.Context, find lookup) ([]server, error) {
	if !n.dns {
		return []server{{n.scheme, n.host}}, nil
	}
	name, port, err := net.SplitHostPort(n.host)
	if err != nil {
		name, port = n.host, "80"
	}
	addrs, err := find(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("dns+http://%s: %w", n.host, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("dns+http://%s: the name has no address", n.host)
	}
	var out []server
	for _, a := range addrs {
		s := server{n.scheme, net.JoinHostPort(a.Unmap().String(), port)}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}
