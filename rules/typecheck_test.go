package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

// testCatalog has public.t with a column of each kind of type.
func testCatalog() *Catalog {
	return NewCatalog([]CatalogTable{{
		Table: Table{Schema: "public", Name: "t"}, Identity: cdc.IdentityDefault,
		Columns: []CatalogColumn{
			{Name: "id", Type: "bigint", OID: oidInt8, NotNull: true, Identity: true}, {Name: "price", Type: "numeric(12,2)", OID: oidNumeric},
			{Name: "ratio", Type: "double precision", OID: oidFloat8}, {Name: "slug", Type: "text", OID: 25}, {Name: "live", Type: "boolean", OID: oidBool},
			{Name: "at", Type: "timestamp with time zone", OID: oidTimestamptz}, {Name: "day", Type: "date", OID: oidDate}, {Name: "data", Type: "jsonb", OID: oidJSONB, Toastable: true},
			{Name: "stars", Type: "positive", OID: 20001}, {Name: "tags", Type: "text[]", OID: 1009}, {Name: "u", Type: "uuid", OID: 2950},
			{Name: "Order ID", Type: "integer", OID: oidInt4}, {Name: "type", Type: "text", OID: 25},
		},
	}})
}

func withCatalog(src string) error {
	opts := testOptions()
	opts.Catalog = testCatalog()
	_, err := Parse("rules.yaml", []byte(src), opts)
	return err
}

func TestTypedConditions(t *testing.T) {
	for when, want := range map[string]string{
		`row.price > 10`: "", `id > 10.5`: "", `price == 10`: "", `10 != price`: "", `price in [1, 2.5]`: "", `id in [1, 2]`: "", `ratio <= price`: "",
		`price > 10.0 * 2.0 && id * 2 < 8`: "", `-price < 0.5`: "", `math.greatest(price, 10) > 5`: "", `math.ceil(price) == 11.0`: "", `id % 2 == 0`: "",
		`row.slug == null || null != id || at == null`: "", `slug in ["a", "b"]`: "", `slug.startsWith("a")`: "", `size(slug) > 3`: "",
		`old.slug != new.slug && op == "update"`: "", `changed(slug, row.price, row["Order ID"])`: "", `row["Order ID"] == 7`: "", `type == "x"`: "",
		`has(row.slug)`: "", `row.exists(c, c == "price")`: "", `"slug" in row`: "", `size(row) == 13 || old == new`: "", `row.exists(c, row[c] == 7)`: "",
		`data.n > 7 && data.s == "x" && data.list.exists(x, x == id)`: "", `data == null`: "", `data.live`: "", `data`: "",
		`at > timestamp("2026-11-20T00:00:00Z")`: "", `day.getFullYear() == 2026`: "", `at - day > duration("1h")`: "", `live`: "", `!live && live == true`: "",
		`(live ? price : id) > 5`: "", `(live ? id : slug) == "x"`: "", `int(stars) > 3`: "", `string(id) == "7"`: "", `lower(id) == "7"`: "", `dyn(id) == "7"`: "",
		`tags == "{a}"`: `'_==_' applied to '(list(string), string)'; tags is text[], here a list (string)`,
		`"a" in tags && tags[0] == "a" && size(tags) > 1 && tags.exists(t, t.startsWith("a")) && changed(tags)`: ``,
		`7 in tags`:          `'@in' applied to '(int, list(string))'; tags is text[], here a list (string)`,
		`lower(tags) == "a"`: `lower() takes a text and not a list; write it for each element, like {tags.map(t, lower(t))}; tags is text[], here a list (string)`, `u == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`: "", `data.list.map(x, x + 1).size() > 0`: "", `"%d".format([id]) == "7"`: "", `[id, 7].exists_one(x, x == 7)`: "",
		`{"a": 1}[slug] == 1`: "", `row[slug] == 1`: "",

		`row.price > "x"`:       `4:22: rule "a": when: found no matching overload for '_>_' applied to '(double, string)'; price is numeric(12,2), here double`,
		`"x" < old.id`:          `4:16: rule "a": when: found no matching overload for '_<_' applied to '(string, int)'; id is bigint, here int`,
		`live && price == "10"`: `4:26: rule "a": when: found no matching overload for '_==_' applied to '(double, string)'; price is numeric(12,2), here double`,
		`id in ["7"]`:           `4:15: rule "a": when: found no matching overload for '@in' applied to '(int, list(string))'; id is bigint, here int`,
		`slug in [slug, slug] || slug in [id, id]`: `applied to '(string, list(int))'; id is bigint, here int; slug is text, here string`,
		`at > "2026-11-20"`:                        `'(timestamp, string)'; at is timestamp with time zone, here timestamp; a moment is written timestamp("2026-11-20T00:00:00Z")`,
		`price * 2 > 8.0`:                          `'_*_' applied to '(double, int)'; price is numeric(12,2), here double; with a double, whole numbers are written 10.0`,
		`stars > 3`:                                `'(string, int)'; stars is positive, here string`,
		`slug`:                                     `4:11: rule "a": when: the condition gives string, want true or false; slug is text, here string`,
		`row.id`:                                   `the condition gives int, want true or false`,
		`slug && live`:                             `expected type 'bool' but found 'string'`,
		`!id`:                                      `found no matching overload for '!_' applied to '(int)'`,
		`slug.category == 1`:                       `type 'string' does not support field selection`,
		`id ? live : live`:                         `found no matching overload for '_?_:_' applied to '(int, bool, bool)'`,
		`lvie`:                                     `4:12: rule "a": when: table public.t has no column "lvie"; it has id, price, ratio, slug, live, at, day, data, stars, tags, u, Order ID, type; did you mean "live"?`,
		`live && row.pirce > 5`:                    `4:23: rule "a": when: table public.t has no column "pirce"`,
		`live && row["order_id"] > 5`:              `has no column "order_id"; it has id, price, ratio, slug, live, at, day, data, stars, tags, u, Order ID, type; did you mean "Order ID"?`,
		`changed(id, slug_, slg)`:                  `4:24: rule "a": when: table public.t has no column "slug_"`,
		`changed(slug, slg)`:                       `4:26: rule "a": when: table public.t has no column "slg"`,
		`old.slgu == "x"`:                          `has no column "slgu"`,
		`has(row.gone)`:                            `has no column "gone"`,
		`data.list.exists(x, x == 1 && gone)`:      `has no column "gone"`,
	} {
		err := withCatalog("rules:\n  - name: a\n    table: public.t\n    when: '" + when + "'\n    keys: ['k']\n")
		if want == "" {
			require.NoError(t, err, when)
			continue
		}
		require.ErrorContains(t, err, want, when)
		require.NotContains(t, err.Error(), "@choice")
		require.NotContains(t, err.Error(), "@equal")
		// Another table is not in the catalog: its rules are as ever.
		require.NoError(t, withCatalog("rules:\n  - name: a\n    table: public.other\n    when: '"+when+"'\n    keys: ['k']\n"), when)
	}
}

func TestTypedTemplates(t *testing.T) {
	for template, want := range map[string]string{
		`k:{id}:{row["Order ID"]}:{old.slug}`: "", `{lower(slug)}:{data.a.b}`: "", `{price > 5 ? price : 0}`: "", `{live ? id : "none"}`: "", `{id + 1}`: "", `{tags}`: "",
		`{live ? null : slug}`: "", `{md5(at)}`: "", `{[id, slug]}`: "", `{'%s-%s'.format([id, at])}`: "",
		`k:{slgu}`:             `4:16: rule "a": key "k:{slgu}": table public.t has no column "slgu"`,
		`k:{id}:{ old.slgu}`:   `has no column "slgu"; it has id, price, ratio, slug, live, at, day, data, stars, tags, u, Order ID, type; did you mean "slug"?`,
		`{lower(slgu)}`:        `has no column "slgu"`,
		`{slug + id}`:          `'_+_' applied to '(string, int)'; id is bigint, here int; slug is text, here string`,
		`{[id, id].join(':')}`: `found no matching overload for 'join'`,
	} {
		err := withCatalog("rules:\n  - name: a\n    table: public.t\n    keys: [\"" + strings.ReplaceAll(template, `"`, `\"`) + "\"]\n")
		if want == "" {
			require.NoError(t, err, template)
			continue
		}
		require.ErrorContains(t, err, want, template)
	}
}

// A pattern is checked against the tables of the catalog that it matches.
func TestTypedPatterns(t *testing.T) {
	const rule = "rules:\n  - name: a\n    table: '%s'\n    when: %s\n    keys: ['{schema}:{id}']\n"
	require.NoError(t, withCatalog(fmt.Sprintf(rule, "{schema}.t", `schema == "public" && id > 5`)))
	require.ErrorContains(t, withCatalog(fmt.Sprintf(rule, "{schema}.t", `slug > 5`)), `'(string, int)'`)
	require.NoError(t, withCatalog(fmt.Sprintf(rule, "{schema}.u", `slug > 5`)))
}

// A catalog only refuses: a rule that is taken does the same with and without it.
func TestCatalogChangesNothing(t *testing.T) {
	cat := testCatalog()
	rel := cat.Table(Table{Schema: "public", Name: "t"}).Relation()
	rules := []string{`price > 10`, `id in [7]`, `live ? id == 7 : slug == "a"`, `price == 10 || at == null`, `changed(slug)`, `data.n == 7`, `at > timestamp("2026-11-20T00:00:00Z")`}
	var plans [][2]*Plan
	for _, when := range rules {
		src := fmt.Sprintf("rules:\n  - name: a\n    table: public.t\n    when: '%s'\n    keys: ['k:{id}', '{live ? price : id}']\n    unknown: {keys: [all]}\n", when)
		opts := testOptions()
		plain, err := Parse("rules.yaml", []byte(src), opts)
		require.NoError(t, err)
		opts.Catalog = cat
		typed, err := Parse("rules.yaml", []byte(src), opts)
		require.NoError(t, err)
		plans = append(plans, [2]*Plan{plain.Bind(rel), typed.Bind(rel)})
	}
	rapid.Check(t, func(r *rapid.T) {
		plan := rapid.SampledFrom(plans).Draw(r, "rule")
		values := make([]string, len(rel.Columns))
		for i := range values {
			values[i] = rapid.SampledFrom([]string{"NULL", "ABSENT", "7", "t", "10.00", "2026-11-21 00:00:00+00", "infinity", `{"n": 7}`, "a"}).Draw(r, "value")
		}
		c := cdc.Change{Op: cdc.Insert, Rel: rel, New: row(values...)}
		var a, b recorder
		plan[0].Eval(&c, &a)
		plan[1].Eval(&c, &b)
		require.Equal(r, a, b)
	})
}

// What standInFor says of a type is what celValue makes of its values.
func TestColumnTypesAreThoseOfValues(t *testing.T) {
	for oid, text := range map[uint32]string{
		oidBool: "t", oidInt2: "1", oidInt4: "1", oidInt8: "1", oidFloat4: "1.5", oidFloat8: "NaN", oidNumeric: "1.50", oidTimestamptz: "2026-11-20 12:00:00+00",
		oidTimestamp: "2026-11-20 12:00:00", oidDate: "2026-11-20", 25: "a", oidBytea: `\x00`, 2950: "u", 0: "red", 1083: "12:00:00", 1186: "1 day", 790: "$1", 1007: "{1}",
	} {
		v := celValue(cdc.Value{Kind: cdc.Text, Data: []byte(text)}, newColumnType(cdc.BuiltinType(oid)))
		require.Equal(t, columnTypes()[standInFor(cdc.BuiltinType(oid))].TypeName(), v.Type().TypeName(), "%d", oid)
	}
}
