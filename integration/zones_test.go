package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness/edge"
)

// TestZones sends URLs, prefixes and tags of one row to the zones of their hosts,
// with a value that no header and no URL could carry as it is.
func TestZones(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{catalog: `rules:
  - name: page
    table: public.products
    urls: ["https://shop.example/p/{slug}", "https://www.shop.de/p/{slug}"]
    url_prefixes: ["shop.de/m/{id}/"]
    tags: ["p:{slug}"]
    sinks: [edge]
`})
	const zoneDE = "dededededededededededededededede"
	none := time.Duration(0)
	site, err := edge.Start(t.Context(), edge.Config{
		OriginURL: r.edge.URL(), PurgeDelay: &none,
		Accounts: []edge.Account{{Plan: edge.Business, Tokens: []string{edgeToken}, Zones: []edge.Zone{
			{ID: zoneID, Hosts: []string{"shop.example"}}, {ID: zoneDE, Hosts: []string{"shop.de"}},
		}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, site.Close()) })
	r.edgeURL = site.APIURL()
	r.config(freeAddr(t))
	text := strings.Replace(r.read("walpurge.yaml"), "zone_id: "+zoneID, fmt.Sprintf("zones: {shop.example: %s, shop.de: %s}", zoneID, zoneDE), 1)
	text = strings.Replace(text, "flush: {everything: true}", "flush: {url_prefixes: [shop.example/, shop.de/]}", 1)
	require.Contains(t, text, "zones:")
	d := r.launchFile(text)
	d.untilStreaming()
	r.exec("INSERT INTO products (id, slug) VALUES (7, 'a b,ü')")
	d.wait(r.lsn(), 30*time.Second)

	got := map[string][]string{}
	for _, req := range site.Requests(0) {
		require.Equal(t, 200, req.Status, "%+v", req)
		zone := map[string]string{zoneID: "example", zoneDE: "de"}[req.Zone]
		got[zone+" "+string(req.Kind)] = append(got[zone+" "+string(req.Kind)], req.Values...)
	}
	require.Equal(t, map[string][]string{
		"example tags":  {"p:a%20b%2C%C3%BC"},
		"de tags":       {"p:a%20b%2C%C3%BC"},
		"example files": {"https://shop.example/p/a%20b%2C%C3%BC"},
		"de files":      {"https://www.shop.de/p/a%20b%2C%C3%BC"},
		"de prefixes":   {"shop.de/m/7/"},
	}, got)
	d.term()
}
