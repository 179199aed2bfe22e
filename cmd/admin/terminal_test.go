package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// hostileText is a name with what a terminal or a page takes for a command: an escape sequence in both forms, a change of the writing
// direction, a backspace.
const hostileText = "a\x1b[31mb\u009b2Jc\u202ed\u2066e\x7f\bf"

// commands are the characters of hostileText that no answer may have.
const commands = "\x1b\u009b\u202e\u2066\x7f\b"

// TestNoAnswerCommandsATerminal: what curl prints has no character that a terminal takes for a command, and JSON has the same values.
func TestNoAnswerCommandsATerminal(t *testing.T) {
	bad := errors.New(hostileText)
	h := &hand{err: bad}
	s := New(Config{
		Registry: prometheus.NewRegistry(), Hand: h, Status: func(context.Context) any { return map[string]string{"summary": hostileText} },
		Healthy: func() error { return bad }, Ready: func() error { return bad }, Streaming: func() error { return bad },
		Reload: func(context.Context) error { return bad }, Explain: func(context.Context, []byte) (any, error) { return nil, bad },
		Silent: func(context.Context, Servers) error { return nil },
	})
	paths := []string{"GET /-/healthy", "GET /-/ready", "GET /-/streaming", "GET /api/v1/status", "GET /api/v1/tail", "POST /api/v1/explain", "GET /api/v1/wait?lsn=" + "%1b%5b31m%c2%9b%e2%80%ae"}
	for name := range calls {
		paths = append(paths, name)
	}
	for _, name := range paths {
		body := call(t, s, t.Context(), name).Body.String()
		require.NotEmpty(t, body, name)
		require.False(t, strings.ContainsAny(body, commands), "%s: %q", name, body)
	}
	var status map[string]string
	require.NoError(t, json.Unmarshal(call(t, s, t.Context(), "GET /api/v1/status").Body.Bytes(), &status))
	require.Equal(t, hostileText, status["summary"])

	ctx, cancel := context.WithCancel(t.Context())
	h.err, h.tail = nil, func(_ context.Context, each func([]byte) error) error {
		defer cancel()
		return errors.Join(each(nil), each([]byte(`{"items":"`+hostileText+`"}`)))
	}
	w := call(t, s, ctx, "GET /api/v1/tail")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "items")
	require.False(t, strings.ContainsAny(w.Body.String(), commands), "%q", w.Body)
}

// TestThePageEscapesNames, in every way in which its modules write a text.
func TestThePageEscapesNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"dom.js", "act.js"} {
		text, err := files.ReadFile("page/" + name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type": "module"}`), 0o600))
	quoted, err := json.Marshal(hostileText)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.js"), []byte(`
const node = () => ({ children: [], attributes: [], dataset: {}, textContent: "", append(...c) { this.children.push(...c); }, setAttribute(n, v) { this.attributes.push(v); },
  replaceChildren(...c) { this.children = c; } });
const flashed = node();
globalThis.document = { createElement: node, createElementNS: node, getElementById: () => flashed };
const { el, svg, text, facts } = await import("./dom.js");
const { flash } = await import("./act.js");
const bad = `+string(quoted)+`;
const one = el("p", { title: bad }, bad, [bad]), two = svg("text", null, bad), three = node(), four = node();
text(three, bad);
facts(four, [[bad, bad]]);
flash(bad, "done");
console.log(JSON.stringify([one, two, three, four, flashed]).replace(/\\u00(1b|9b|7f|08)|\\b/g, (c) => "FOUND " + c));
`), 0o600))
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "main.js"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s (apt-get install nodejs)", out)
	require.NotContains(t, string(out), "FOUND")
	require.False(t, strings.ContainsAny(string(out), commands), "%q", out)
	require.Equal(t, 8, strings.Count(string(out), `u{202e}`), "%s", out)
}
