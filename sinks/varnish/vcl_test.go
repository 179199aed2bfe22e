package varnish

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

const vclHead = `vcl 4.1;
import purge;
import std;
import xkey;
backend default { .host = "127.0.0.1"; .port = "8080"; }
acl walpurge { "127.0.0.1"; }
`

// vcl is what a VCL does with requests, and with answers of its own.
type vcl struct{ recv, synth string }

// foreign are ways in which other VCLs take purges, or do not.
var foreign = map[string]vcl{
	"plain purge": {recv: ` if (req.method == "PURGE") { return (purge); }`},

	"200 to everything": {recv: ` if (req.method != "GET") { return (synth(200, "Purged")); }`},

	// The documented VCL as it was before it answered with a count, reading another header.
	"another header": {recv: `
    if (req.method == "PURGE") {
        if (req.http.xkey-purge) { set req.http.n = xkey.purge(req.http.xkey-purge); return (synth(200, "Purged")); }
        return (purge);
    }`, synth: `set resp.http.Walpurge-Purged = "yes";`},

	"a count of its own": {recv: ` if (req.method == "PURGE") { return (synth(200, "Purged")); }`, synth: `set resp.http.Walpurge-Purged = "1";`},

	// A ban's text is cut at white space, so two tags make it invalid; the VCL answers 200 all the same.
	"ban": {recv: `
    if (req.method == "PURGE" && req.http.xkey) { ban("obj.http.xkey ~ " + req.http.xkey); return (synth(200, "Banned")); }
    if (req.method == "PURGE") { return (purge); }`, synth: `set resp.http.Walpurge-Purged = "1";`},

	"ban of each tag": {recv: `
    if (req.method == "PURGE" && req.http.xkey) {
        if (!std.ban("obj.http.xkey ~ (^|\s)(" + regsuball(req.http.xkey, " ", "|") + ")($|\s)")) { return (synth(400)); }
        return (synth(200, "Banned"));
    }
    if (req.method == "PURGE") { return (purge); }`, synth: `set resp.http.Walpurge-Purged = "1";`},

	"the first tag only": {recv: `
    if (req.method == "PURGE" && req.http.xkey) {
        set req.http.n = xkey.purge(regsub(req.http.xkey, " .*", "")); return (synth(200, "Purged"));
    }
    if (req.method == "PURGE") { return (purge); }`, synth: `set resp.http.Walpurge-Purged = req.http.n;`},

	"bans everything": {recv: `
    if (req.method == "PURGE") { ban("obj.status != 0"); return (synth(200, "Banned")); }`, synth: `set resp.http.Walpurge-Purged = "1";`},

	// The method and headers of FOSHttpCache, for xkey and for single URLs.
	"FOSHttpCache": {recv: `
    if (req.method == "PURGEKEYS") {
        if (client.ip !~ walpurge) { return (synth(405, "Not allowed")); }
        if (!req.http.xkey-purge && !req.http.xkey-softpurge) { return (synth(400, "Neither header is set")); }
        set req.http.n-gone = 0;
        set req.http.n-softgone = 0;
        if (req.http.xkey-purge) { set req.http.n-gone = xkey.purge(req.http.xkey-purge); }
        if (req.http.xkey-softpurge) { set req.http.n-softgone = xkey.softpurge(req.http.xkey-softpurge); }
        return (synth(200, "Purged " + req.http.n-gone + " objects, expired " + req.http.n-softgone + " objects"));
    }
    if (req.method == "PURGE") {
        if (client.ip !~ walpurge) { return (synth(405, "Not allowed")); }
        return (purge);
    }
    if (req.method == "BAN") {
        if (client.ip !~ walpurge) { return (synth(405, "Not allowed")); }
        if (req.http.X-Cache-Tags) {
            ban("obj.http.X-Host ~ " + req.http.X-Host + " && obj.http.X-Url ~ " + req.http.X-Url + " && obj.http.X-Cache-Tags ~ " + req.http.X-Cache-Tags);
        } else {
            ban("obj.http.X-Host ~ " + req.http.X-Host + " && obj.http.X-Url ~ " + req.http.X-Url);
        }
        return (synth(200, "Banned"));
    }`},

	// Magento's: tags as a pattern in a header of its own, 400 without one.
	"Magento": {recv: `
    if (req.method == "PURGE") {
        if (client.ip !~ walpurge) { return (synth(405, "Method not allowed")); }
        if (!req.http.X-Magento-Tags-Pattern && !req.http.X-Pool) {
            return (synth(400, "X-Magento-Tags-Pattern or X-Pool header required"));
        }
        if (req.http.X-Magento-Tags-Pattern) { ban("obj.http.X-Magento-Tags ~ " + req.http.X-Magento-Tags-Pattern); }
        if (req.http.X-Pool) { ban("obj.http.X-Pool ~ " + req.http.X-Pool); }
        return (synth(200, "Purged"));
    }`},
}

// foreignAddr is where each of them is served.
func foreignAddr(n int) string { return fmt.Sprintf("127.0.0.%d", 2+n) }

// startForeign serves all of them by one server, each at an address of its own, and adds what the
// documented VCL has for probes, except at 127.0.0.1.
func startForeign(t *testing.T, names []string) (*instance, string) {
	t.Helper()
	ours := documented(t)
	_, recv, found := strings.Cut(ours, "    # Pages of `walpurge check --probe`")
	require.True(t, found)
	recv, _, _ = strings.Cut(recv, "\n}\n")
	_, stored, found := strings.Cut(ours, "sub walpurge_stored {")
	require.True(t, found)
	text := vclHead
	var listen []string
	for n, name := range names {
		listen = append(listen, foreignAddr(n))
		at := fmt.Sprintf("{ if (server.ip == %q) {", foreignAddr(n))
		text += "sub vcl_recv " + at + foreign[name].recv + "\n} }\nsub vcl_synth " + at + foreign[name].synth + "\n} }\n"
	}
	text += "sub vcl_recv { if (server.ip == \"127.0.0.1\") { unset req.http.Walpurge-Probe; }\n#" + recv + "\n}\nsub walpurge_stored {" + stored
	v := startVarnish(t, text+testVCL, listen...)
	_, port, err := net.SplitHostPort(v.addr)
	require.NoError(t, err)
	return v, port
}

// What an answer proves with the default `confirm`, and what only a probe does.
func TestOtherVCLs(t *testing.T) {
	wants := map[string]struct{ purge, probe string }{
		"plain purge":        {"without the header that `confirm` names (Walpurge-Purged), so the VCL may have purged nothing", "without the header"},
		"200 to everything":  {"the VCL may have purged nothing", "without the header"},
		"another header":     {"its Walpurge-Purged has no count", "has no count"},
		"FOSHttpCache":       {"the VCL may have purged nothing", "without the header"},
		"Magento":            {"HTTP 400: every purge by ", "HTTP 400: every purge by tag is refused"},
		"a count of its own": {"", "two tags, of which the first has a page: the node answered that it did, but the page is still there"},
		"ban":                {"", "two tags, of which the first has a page: the node answered that it did, but the page is still there"},
		"the first tag only": {"", "two tags, of which the last has a page: the node answered that it did, but the page is still there"},
		"bans everything":    {"", "of a page that has another tag and URL: it is not in the cache any more"},
		"ban of each tag":    {"", ""},
	}
	names := slices.Sorted(maps.Keys(foreign))
	require.Equal(t, names, slices.Sorted(maps.Keys(wants)))
	v, port := startForeign(t, names)
	ctx := t.Context()
	for n, name := range names {
		t.Run(name, func(t *testing.T) {
			s := openSink(t, withNodes(net.JoinHostPort(foreignAddr(n), port)), quiet)
			judge := func(err error, says string) {
				t.Helper()
				if says == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, says)
			}
			want := wants[name]
			judge(s.Check(ctx), want.purge)
			err := s.Purge(ctx, append(batchOf(invalidation.Tag, "a", "b"), batchOf(invalidation.URL, "https://shop.example/a")...))
			judge(err, want.purge)
			if err != nil {
				class, _ := sinks.ClassOf(err)
				require.Equal(t, sinks.Lane, class, "nothing is given up for it")
			}
			judge(s.Probe(ctx), want.probe)
		})
	}
	require.ErrorContains(t, openSink(t, withNodes(v.addr), quiet).Probe(ctx), "the VCL stores no probe pages")
}
