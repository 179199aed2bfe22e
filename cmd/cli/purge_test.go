package cli

import (
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPurgeForPeople(t *testing.T) {
	const where = `"pipeline": "shop", "kind": "cloudflare", "where": "zone 0d3e"`
	const one = `"items": 1, "requests": 1`
	for _, c := range []struct {
		args, answer, says string
	}{
		{"--key home", `{` + where + `,` + one + `}`, "queued: 1 item in 1 request at edge\n"},
		{"--tag a --tag b --dry-run", `{` + where + `, "items": 2, "requests": 2, "seconds": 90.4, "dry_run": true}`,
			"would purge: 2 items in 2 requests at edge, about 1m30s at its limits\n"},
		{"--all --dry-run", `{` + where + `,` + one + `, "everything": true, "plan": [{"kind": "everything"}], "dry_run": true,
			"waiting": {"items": 18200, "messages": 310, "more": true}}`,
			"would purge: EVERYTHING at edge (cloudflare, zone 0d3e), 1 item in 1 request, not held back by its limits\n" +
				"--supersede would drop: more than 18200 items waiting in 310 messages\n"},
		{"--all --supersede --dry-run", `{` + where + `,` + one + `, "seconds": 12, "plan": [{"kind": "tag", "value": "all"}], "dry_run": true,
			"waiting": {"items": 1, "messages": 1}}`,
			"would purge: tag \"all\" at edge (cloudflare, zone 0d3e), 1 item in 1 request, about 12s at its limits\n" +
				"would drop: 1 item waiting in 1 message\n"},
		{"--all --yes", `{` + where + `, "items": 5, "requests": 1, "seconds": 3, "seconds_unknown": "connection refused", "shadow": true, "plan": [
			{"kind": "key_pattern", "value": "a:*"}, {"kind": "key_pattern", "value": "b:*"}, {"kind": "key_pattern", "value": "c:*"},
			{"kind": "key_pattern", "value": "d:*"}, {"kind": "generation", "value": "g"}]}`,
			"queued: key pattern \"a:*\", key pattern \"b:*\", key pattern \"c:*\", 2 more at edge (cloudflare, zone 0d3e), 5 items in 1 request, time unknown: connection refused\n" +
				"the sink is in shadow mode: it purges nothing\n"},
	} {
		code, out, stderr := talk(t, &daemonFake{answers: map[string]string{"/api/v1/purge": c.answer}}, append([]string{"purge", "--sink", "edge"}, strings.Fields(c.args)...)...)
		require.Equal(t, 0, code, stderr)
		require.Equal(t, c.says, out)
	}
}

// A purge of all is carried out for who has typed the pipeline's name, or written --yes.
func TestPurgeOfAllIsConfirmed(t *testing.T) {
	const would = "would purge: EVERYTHING at edge (cloudflare, zone 0d3e), 1 item in 1 request, not held back by its limits\nType the pipeline's name to go on: "
	run := func(stdin io.Reader, args ...string) (code int, asked []string, stderr string) {
		t.Helper()
		d := &daemonFake{answers: map[string]string{"/api/v1/purge": `{"pipeline": "shop", "kind": "cloudflare", "where": "zone 0d3e", "items": 1, "requests": 1, "everything": true, "dry_run": true}`}}
		srv := httptest.NewServer(d)
		defer srv.Close()
		var out, errs bytes.Buffer
		code = Main(append([]string{"purge", "--addr", srv.URL, "--sink", "edge", "--all"}, args...), "test", stdin, &out, &errs)
		for _, a := range d.asked {
			asked = append(asked, a[strings.IndexByte(a, '{'):])
		}
		return code, asked, errs.String()
	}
	dry, real := `{"sink":"edge","all":true,"dry_run":true}`, `{"sink":"edge","all":true}`

	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	for _, stdin := range []io.Reader{bytes.NewReader(nil), strings.NewReader("shop\n"), null} {
		code, asked, stderr := run(stdin)
		require.Equal(t, 2, code)
		require.Empty(t, asked)
		require.Equal(t, "walpurge: --all asks for the pipeline's name, and there is no terminal to ask on: look at its --dry-run, then add --yes; nothing was purged\n", stderr)
	}
	code, asked, _ := run(null, "--yes")
	require.Equal(t, 0, code)
	require.Equal(t, []string{real}, asked)
	code, asked, _ = run(null, "--dry-run")
	require.Equal(t, 0, code)
	require.Equal(t, []string{dry}, asked)

	for answer, want := range map[string]int{"shop\n": 0, "  shop \n": 0, "ship\n": 2, "\n": 2, "yes\n": 2} {
		code, asked, stderr := run(typed(t, answer))
		require.Equal(t, want, code, answer)
		require.True(t, strings.HasPrefix(stderr, would), stderr)
		if want == 0 {
			require.Equal(t, []string{dry, real}, asked)
			continue
		}
		require.Equal(t, []string{dry}, asked)
		require.Contains(t, stderr, "is not the name of the pipeline; nothing was purged\n")
	}
}

// typed is a terminal on which a text was typed.
func typed(t *testing.T, text string) *os.File {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { ptmx.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { terminal.Close() })
	_, err = ptmx.WriteString(text)
	require.NoError(t, err)
	return terminal
}
