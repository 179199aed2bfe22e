package strictyaml_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

type inner struct {
	Host string `yaml:"host"`
	Port int    `yaml:"port"`
}

type common struct {
	Mode string `yaml:"mode"`
}

type config struct {
	common   `yaml:"-"`
	Shared   common                       `yaml:",inline"`
	Name     string                       `yaml:"name"`
	Count    int                          `yaml:"count"`
	Small    uint8                        `yaml:"small"`
	Ratio    float64                      `yaml:"ratio"`
	On       bool                         `yaml:"enabled"`
	Wait     time.Duration                `yaml:"wait"`
	Size     strictyaml.Size              `yaml:"size"`
	List     []string                     `yaml:"list"`
	Inner    inner                        `yaml:"inner"`
	Ptr      *inner                       `yaml:"ptr"`
	Zones    map[string]string            `yaml:"zones"`
	Sinks    strictyaml.Map[inner]        `yaml:"sinks"`
	Where    strictyaml.Located[int]      `yaml:"where"`
	Text     strictyaml.Text              `yaml:"text"`
	Raw      *strictyaml.Node             `yaml:"raw"`
	Level    slog.Level                   `yaml:"level"`
	Everyone []strictyaml.Located[string] `yaml:"everyone"`
}

func decode(t *testing.T, src string, expand func(string) (string, bool)) (config, error) {
	t.Helper()
	var c config
	doc, err := strictyaml.Options{Expand: expand}.Parse("f.yaml", []byte(src))
	if err != nil {
		return c, err
	}
	return c, doc.Decode(&c)
}

func TestDecodesEveryType(t *testing.T) {
	c, err := decode(t, `
# a comment
name: 023
mode: auto
count: -5
small: 255
ratio: 1.5
enabled: true
wait: 1h30m
size: 64MiB
list: [a, "no", 5]
inner: {host: h, port: 1}
ptr:
  host: x
zones: {shop.example: z1, shop.de: z2}
sinks:
  second: {port: 2}
  first: {port: 1}
where: 7
text: "product:{id}"
raw: [1]
level: warn
everyone:
  - one
  - two
`, nil)
	require.NoError(t, err)
	require.Equal(t, "023", c.Name, "text keeps its spelling")
	require.Equal(t, "auto", c.Shared.Mode)
	require.Equal(t, -5, c.Count)
	require.Equal(t, uint8(255), c.Small)
	require.Equal(t, 1.5, c.Ratio)
	require.True(t, c.On)
	require.Equal(t, 90*time.Minute, c.Wait)
	require.Equal(t, strictyaml.Size(64<<20), c.Size)
	require.Equal(t, []string{"a", "no", "5"}, c.List)
	require.Equal(t, inner{"h", 1}, c.Inner)
	require.Equal(t, &inner{Host: "x"}, c.Ptr)
	require.Equal(t, map[string]string{"shop.example": "z1", "shop.de": "z2"}, c.Zones)
	require.Equal(t, "second", c.Sinks[0].Key)
	require.Equal(t, strictyaml.Pos{Line: 17, Column: 3}, c.Sinks[0].Pos)
	require.Equal(t, 1, c.Sinks[1].Value.Port)
	require.Equal(t, strictyaml.Located[int]{Value: 7, Pos: strictyaml.Pos{Line: 19, Column: 8}}, c.Where)
	require.Equal(t, strictyaml.Pos{Line: 20, Column: 16}, c.Text.At(8), "the brace in the quoted text")
	require.Equal(t, strictyaml.Sequence, c.Raw.Kind)
	require.Equal(t, slog.LevelWarn, c.Level)
	require.Equal(t, strictyaml.Pos{Line: 25, Column: 5}, c.Everyone[1].Pos)
}

func TestEmptyAndNullKeepDefaults(t *testing.T) {
	for _, src := range []string{"", "# only a comment\n", "---\n", "\ufeff", "null\n", "list:\nptr:\ninner:\nsinks: ~\n"} {
		c := config{Name: "kept", List: []string{"kept"}, Inner: inner{Port: 3}}
		doc, err := strictyaml.Parse("f.yaml", []byte(src))
		require.NoError(t, err, "%q", src)
		require.NoError(t, doc.Decode(&c), "%q", src)
		require.Equal(t, config{Name: "kept", List: []string{"kept"}, Inner: inner{Port: 3}}, c, "%q", src)
	}
}

func TestOneMistakeOneMessage(t *testing.T) {
	for src, want := range map[string]string{
		"nmae: x":                       `f.yaml:1:1: unknown key "nmae"; did you mean "name"?`,
		"inner: {hots: x}":              `f.yaml:1:9: unknown key "hots"; did you mean "host"?`,
		"inner: {zzzzzz: x}":            `f.yaml:1:9: unknown key "zzzzzz"; valid: host, port`,
		"name: a\ncount: 1\nname: b":    `f.yaml:3:1: key "name" is repeated; it was first given in line 1`,
		"name: a\n\"name\": b":          `f.yaml:2:1: key "name" is repeated; it was first given in line 1`,
		"count: abc":                    `f.yaml:1:8: "abc" is not a whole number`,
		"count: 1.5":                    `f.yaml:1:8: "1.5" is not a whole number`,
		"count: 0x10":                   `f.yaml:1:8: "0x10" is not a whole number`,
		"count: 1_000":                  `f.yaml:1:8: "1_000" is not a whole number`,
		"count: 0755":                   `f.yaml:1:8: "0755" begins with a zero, which some readers of YAML take for octal; write the number without it`,
		"count: \"5\"":                  `f.yaml:1:8: "5" is not a whole number`,
		"count: 99999999999999999999":   `f.yaml:1:8: "99999999999999999999" is too large or too small for this number`,
		"small: 256":                    `f.yaml:1:8: "256" is too large or too small for this number`,
		"small: -1":                     `f.yaml:1:8: "-1" is not a whole number of 0 or more`,
		"ratio: .inf":                   `f.yaml:1:8: ".inf" is not a number`,
		"name: [a]":                     `f.yaml:1:7: a list is not a text`,
		"name: no":                      `f.yaml:1:7: bare no is a bool to some readers of YAML and a text to others; quote it: "no"`,
		"list: [ON]":                    `f.yaml:1:8: bare ON is a bool to some readers of YAML and a text to others; quote it: "ON"`,
		"name: true":                    `f.yaml:1:7: true is a bool, want a text; quote it: "true"`,
		"enabled: yes":                  `f.yaml:1:10: "yes" is not a bool here; write true or false`,
		"enabled: 1":                    `f.yaml:1:10: "1" is not a bool; write true or false`,
		"zones: {no: x}":                `f.yaml:1:9: the key no is a bool to some readers of YAML; quote it`,
		"sinks: {off: {port: 1}}":       `f.yaml:1:9: the key off is a bool to some readers of YAML; quote it`,
		"name:":                         `f.yaml:1:1: there is no value here, want a text; write one or remove the key`,
		"wait: 30":                      `f.yaml:1:7: "30" is a duration without a unit; write it like 30s or 30m`,
		"wait: soon":                    `f.yaml:1:7: "soon" is not a duration; write it like 500ms, 30s or 1h30m`,
		"size: 5 apples":                `f.yaml:1:7: "5 apples" is not a size; write it like 64MiB, 20GB or 4096`,
		"size: -5":                      `f.yaml:1:7: "-5" is not a size; write it like 64MiB, 20GB or 4096`,
		"size: 9999999TiB":              `f.yaml:1:7: "9999999TiB" is more than 8EiB`,
		"list: a":                       `f.yaml:1:7: "a" is not a list; write it as [a, b] or one per line after -`,
		"inner: 5":                      `f.yaml:1:8: "5" is not a mapping of keys to values`,
		"level: loud":                   `f.yaml:1:8: "loud": slog: level string "loud": unknown name`,
		"- a":                           `f.yaml:1:1: a list is not a mapping of keys to values`,
		"name: &a x":                    `f.yaml:1:7: anchors (&) and aliases (*) are not supported; write the value out, or quote it if it is text`,
		"inner:\n  <<: {host: a}":       `f.yaml:2:3: merge keys (<<) are not supported; write the keys out`,
		"name: !!str 5":                 `f.yaml:1:7: type tags ("!!str") are not supported; quote the value if it is text`,
		"name: a\n---\nname: b":         `f.yaml:2:1: a second document begins here; write one document per file`,
		"%YAML 1.1\n---\nname: b":       `f.yaml:1:1: %-directives are not supported; remove the line`,
		"name: a: b":                    `f.yaml:1:7: not valid YAML: mapping value is not allowed in this context`,
		"list: [product:{id}]":          `f.yaml:1:16: not valid YAML: ',' or ']' must be specified; inside [ ] and { } a value with braces must be quoted: ["product:{id}"]`,
		"a: 1\nb: \xff":                 `f.yaml:2:1: the line holds bytes that are not UTF-8 text`,
		"list: " + nested("[", 101):     `f.yaml:1:107: nested more than 100 deep`,
		nested("- ", 200):               `f.yaml:1:201: nested more than 100 deep`,
		"äö: 1":                         "f.yaml:1:1: unknown key \"äö\"; valid: mode, name, count, small, ratio, enabled, wait, size, list, inner, ptr, zones, sinks, where, text, raw, level, everyone",
		"inner: {host: \"ä\", prot: 1}": `f.yaml:1:20: unknown key "prot"; did you mean "port"?`,
	} {
		_, err := decode(t, src, nil)
		require.EqualError(t, err, want, "%s", src)
		var one *strictyaml.Error
		require.True(t, errors.As(err, &one))
	}
}

func nested(s string, n int) (out string) {
	for range n {
		out += s
	}
	return out
}

func TestAllMistakesTogetherByLine(t *testing.T) {
	_, err := decode(t, "wait: 5\nname: a\nnmae: b\nname: c\ninner: {port: x, hots: y}\ntext: ${GONE}\n",
		func(string) (string, bool) { return "", false })
	require.EqualError(t, err, `f.yaml:1:7: "5" is a duration without a unit; write it like 5s or 5m
f.yaml:3:1: unknown key "nmae"; did you mean "name"?
f.yaml:4:1: key "name" is repeated; it was first given in line 2
f.yaml:5:15: "x" is not a whole number
f.yaml:5:18: unknown key "hots"; did you mean "host"?
f.yaml:6:7: the environment variable GONE is not set (used as ${GONE})`)
	var errs strictyaml.Errors
	require.True(t, errors.As(err, &errs))
	require.Len(t, errs, 6)
	require.Equal(t, "nmae", errs[1].Text)
}

func TestExpand(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"FIVE": "5", "ON": "on", "SECRET": "s3cret\n- x: ${FIVE}", "EMPTY": ""}[name]
		return v, ok
	}
	c, err := decode(t, `
name: ${FIVE}           # ${MISSING} in a comment is not read
count: ${FIVE}
small: "${FIVE}"
wait: ${FIVE}s
list: ["a${FIVE}b$${FIVE}", '${ON}', "${SECRET}", "${EMPTY}", "$FIVE$"]
zones: {"${FIVE}": "${FIVE}"}
`, env)
	require.NoError(t, err)
	require.Equal(t, "5", c.Name)
	require.Equal(t, 5, c.Count)
	require.Equal(t, uint8(5), c.Small)
	require.Equal(t, 5*time.Second, c.Wait)
	require.Equal(t, []string{"a5b${FIVE}", "on", "s3cret\n- x: ${FIVE}", "", "$FIVE$"}, c.List)
	require.Equal(t, map[string]string{"${FIVE}": "5"}, c.Zones, "keys are left alone")

	c, err = decode(t, "name: ${FIVE}", nil)
	require.NoError(t, err)
	require.Equal(t, "${FIVE}", c.Name, "without the option nothing is expanded")

	for src, want := range map[string]string{
		"name: a\ncount: ${MISSING}":   `f.yaml:2:8: the environment variable MISSING is not set (used as ${MISSING})`,
		"name: ${MISSING":              `f.yaml:1:7: "${MISSING": ${ wants a variable's name and }, like ${HOME}; a literal ${ is written $${`,
		"name: ${a-b}":                 `f.yaml:1:7: "${a-b}": ${ wants a variable's name and }, like ${HOME}; a literal ${ is written $${`,
		"count: ${SECRET}":             `f.yaml:1:8: "${SECRET}" is not a whole number`,
		"enabled: ${ON}":               `f.yaml:1:10: "${ON}" is not a bool here; write true or false`,
		"level: ${SECRET}":             `f.yaml:1:8: "${SECRET}": the expanded text is not a valid slog.Level`,
		"wait: ${SECRET}\nsize: ${ON}": "f.yaml:1:7: \"${SECRET}\" is not a duration; write it like 500ms, 30s or 1h30m\nf.yaml:2:7: \"${ON}\" is not a size; write it like 64MiB, 20GB or 4096",
	} {
		_, err := decode(t, src, env)
		require.EqualError(t, err, want)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]strictyaml.Size{"0": 0, "4096": 4096, "1kB": 1000, "2GiB": 2 << 30, "20GB": 20e9, "1 TiB": 1 << 40, "7B": 7} {
		c, err := decode(t, "size: "+text, nil)
		require.NoError(t, err)
		require.Equal(t, want, c.Size, text)
	}
	require.Equal(t, "64MiB", strictyaml.Size(64<<20).String())
	require.Equal(t, "20GB", strictyaml.Size(20e9).String())
	require.Equal(t, "7B", strictyaml.Size(7).String())
}

func TestNearest(t *testing.T) {
	valid := []string{"keys", "key_prefixes", "sinks", "table"}
	for word, want := range map[string]string{"kesy": "keys", "Keys": "keys", "key-prefixes": "key_prefixes", "key_prefix": "key_prefixes", "sink": "sinks", "tabel": "table", "whatever": "", "": ""} {
		require.Equal(t, want, strictyaml.Nearest(word, valid), word)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a\nlist: [a, {b: c}]\n", "a: &x [1]\nb: *x", "? a\n: b", "- - |\n x", "${A}$${B}: ${A}", "%Y\n---\n", "a: !!t \"\\u00e9\"", "\"\\x", "<<: {a: b}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := strictyaml.Options{Expand: func(n string) (string, bool) { return n, len(n) < 3 }}.Parse("f", data)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		var c config
		_ = doc.Decode(&c)
		var m map[string]any
		_ = doc.Decode(&m)
	})
}
