package rulestest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const eventRules = `
rules:
  - name: menu
    table: public.menu_items
    lookup: {m: {sql: "SELECT store_id, slug FROM stores WHERE menu_id = $1", args: ["{menu_id}"], limit: 2}}
    keys: ["menu:{m.store_id}:{id}", "slug:{lower(m.slug)}"]
    unknown: {keys: [menus]}
    sinks: [cache]
  - {name: plain, table: public.other, keys: [other], sinks: [cache]}
  - {name: by-hand, message: cache.purge, unknown: {keys: [all]}, sinks: [cache]}
`

// A test gives the rows that a lookup answers, and messages as they are sent.
func TestLookupsAndMessages(t *testing.T) {
	s, err := load(t, eventRules, `
  - name: rows fan out
    table: public.menu_items
    insert: {id: 7, menu_id: 3}
    lookup: {m: [{store_id: 1, slug: A}, {store_id: 2, slug: null}]}
    expect: {keys: ["menu:1:7", "menu:2:7", "slug:a"]}
  - name: without rows given it is unknown
    table: public.menu_items
    insert: {id: 7, menu_id: 3}
    expect: {keys: [menus]}
  - name: no row
    table: public.menu_items
    insert: {id: 7, menu_id: 3}
    lookup: {m: []}
    expect: {keys: [menus]}
  - name: more rows than the limit
    table: public.menu_items
    insert: {id: 7, menu_id: 3}
    lookup: {m: [{store_id: 1, slug: a}, {store_id: 2, slug: a}, {store_id: 3, slug: a}]}
    expect: {keys: [menus]}
  - name: nothing to ask with
    table: public.menu_items
    insert: {id: 7, menu_id: null}
    lookup: {m: [{store_id: 1, slug: a}]}
    expect: {}
  - name: a row without the column
    table: public.menu_items
    insert: {id: 7, menu_id: 3}
    lookup: {m: [{slug: a}]}
    expect: {keys: ["slug:a", menus]}
  - name: by hand
    message: {prefix: cache.purge, content: {keys: [home, "7"]}}
    expect: {keys: [home, "7"]}
  - name: what is fit counts
    message: {prefix: cache.purge, content: '{"keys": ["home", ""]}'}
    expect: {keys: [home, all]}
  - name: no JSON
    message: {prefix: cache.purge, content: home}
    expect: {keys: [all]}
`)
	require.NoError(t, err)
	text, passed := report(t, s)
	require.Empty(t, text)
	require.Equal(t, 9, passed)
	for tests, want := range map[string]string{
		"  - {name: a, message: {prefix: cache.purg}, expect: {}}":                                                 `no rule carries out messages with the prefix "cache.purg"; did you mean "cache.purge"?`,
		"  - {name: a, message: {content: {}}, expect: {}}":                                                        "message: `prefix` is missing",
		"  - {name: a, table: public.other, message: {prefix: cache.purge}, expect: {}}":                           "`table` has no place beside `message`",
		"  - {name: a, message: {prefix: cache.purge}, repeat: 2, expect: {}}":                                     "a message has none",
		"  - {name: a, table: public.menu_items, insert: {id: 1}, lookup: {n: []}, expect: {}}":                    `lookup: no rule of public.menu_items has a lookup "n"; did you mean "m"?`,
		"  - {name: a, table: public.other, insert: {id: 1}, lookup: {m: []}, expect: {}}":                         `lookup: no rule of public.other has a lookup "m"`,
		"  - {name: a, table: public.menu_items, insert: {id: 1}, lookup: {m: {store_id: 3}}, expect: {}}":         "a mapping is not a list",
		"  - {name: a, table: public.menu_items, insert: {id: 1}, lookup: {m: [{a: 1}, {a: 'x'}]}, expect: {}}":    `column "a" is`,
		"  - {name: a, table: public.menu_items, insert: {id: 1}, message: {prefix: cache.purge}, expect: {}}":     "has no place beside `message`",
		"  - {name: a, message: {prefix: cache.purge, content: {keys: [a]}, contents: 3}, lookup: {}, expect: {}}": `unknown key "contents"`,
	} {
		_, err := load(t, eventRules, tests+"\n")
		require.ErrorContains(t, err, want, tests)
	}
}
