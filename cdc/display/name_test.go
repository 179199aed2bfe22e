package display

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestName(t *testing.T) {
	for name, want := range map[string]string{
		"products": "products", "Order ID": "Order ID", "Prämie": "Prämie", "商品": "商品", `a"b`: `a"b`, "": "", "a\u00a0b": "a\u00a0b",
		"a\nb": `"a\nb"`, "\x1b[31mred": `"\x1b[31mred"`, "a\u202eb": `"a\u202eb"`, "a\u2066b": `"a\u2066b"`, "a\x7f": `"a\x7f"`, "a\u009b1m": `"a\u009b1m"`,
		"\xff": `"\xff"`, "a\u200bb": `"a\u200bb"`, "a\u2028b": `"a\u2028b"`, "a\rb": `"a\rb"`, "a\tb": `"a\tb"`,
	} {
		require.Equal(t, want, Name(name), "%q", name)
	}
}

func TestPropertyWriter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.String().Draw(rt, "text") + string(rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes"))
		var out strings.Builder
		n, err := Writer(&out).Write([]byte(text))
		require.NoError(rt, err)
		require.Equal(rt, len(text), n)
		require.True(rt, utf8.ValidString(out.String()))
		for _, r := range out.String() {
			require.True(rt, printable(r) || r == '\n' || r == '\t', "%q", r)
		}
		// A document means the same.
		document, err := json.Marshal(text)
		require.NoError(rt, err)
		out.Reset()
		_, err = Writer(&out).Write(document)
		require.NoError(rt, err)
		var want, got string
		require.NoError(rt, json.Unmarshal(document, &want))
		require.NoError(rt, json.Unmarshal([]byte(out.String()), &got))
		require.Equal(rt, want, got)
	})
}

func TestWriterKeepsPrintableText(t *testing.T) {
	text := []byte("STAGE\tLSN\nPrämie 商品 …\n")
	require.Equal(t, &text[0], &escape(text)[0], "nothing is copied")
}
