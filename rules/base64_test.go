package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestBase64(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v", "*n:int", "*u:bool")
	for text, want := range map[string][2]string{
		"": {"", ""}, "f": {"Zg==", "Zg"}, "fo": {"Zm8=", "Zm8"}, "foo": {"Zm9v", "Zm9v"}, "foobar": {"Zm9vYmFy", "Zm9vYmFy"}, // RFC 4648, section 10
		"Product:7": {"UHJvZHVjdDo3", "UHJvZHVjdDo3"}, "ü?>~": {"w7w/Pn4=", "w7w_Pn4"}, "日本": {"5pel5pys", "5pel5pys"}, "a\x00\xff": {"YQD/", "YQD_"},
	} {
		given := texts([]string{text, "7", "t"})
		require.Equal(t, "<"+want[0]+">", made(t, "<{base64(v)}>", rel, given), "%q", text)
		require.Equal(t, "<"+want[1]+">", made(t, "<{base64url(v)}>", rel, given), "%q", text)
	}
	given := texts([]string{"x", "7", "t"})
	for template, want := range map[string]string{
		`{base64("Product:" + string(n))}`: "UHJvZHVjdDo3", `{base64(n)}`: "Nw==", `{base64(u)}`: "dHJ1ZQ==", `{base64(base64(v))}`: "ZUE9PQ==",
		`{rpad(v, 3)}|`: "x  |", `{rpad("ü", 2)}|`: "ü |", `{rpad("long", 2)}`: "long", `{rpad(v, 70000)}`: "failed",
	} {
		require.Equal(t, want, made(t, template, rel, given), template)
	}
	require.Empty(t, made(t, "<{base64(v)}>", rel, row("NULL", "7", "t")))
	out := eval(t, oneRule(t, `when: 'base64("Product:" + string(n)) == "UHJvZHVjdDo3"'`+"\nkeys: [k]"), cdc.Change{Op: cdc.Insert, Rel: rel, New: given})
	require.Equal(t, []string{"2 key k"}, out.values)
	require.Equal(t, []string{"3 url https://h/x%2BPz8w%3D%3D"}, eval(t, allRule(t, `urls: ["https://h/{base64(v)}"]`), cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{"\xc7\xe3\xf3\xf3", "7", "t"})}).values)
}
