package rules

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// check tells of templates that may become too long, where nothing in the rule covers them.
func TestTooLong(t *testing.T) {
	column := func(name, typ string, oid uint32, toastable bool) CatalogColumn {
		return CatalogColumn{Name: name, Type: typ, OID: oid, Toastable: toastable}
	}
	catalog := NewCatalog([]CatalogTable{{Table: Table{Schema: "public", Name: "t"}, Identity: cdc.IdentityFull, Columns: []CatalogColumn{
		column("id", "bigint", oidInt8, false), column("slug", "text", 25, true), column("code", "character varying(4)", 1043, false),
		column("name", "character varying(300)", 1043, false), column("price", "numeric", oidNumeric, true), column("ref", "uuid", 2950, false),
		column("data", "jsonb", oidJSONB, true), column("at", "timestamp with time zone", oidTimestamptz, false),
	}}})
	for body, want := range map[string][]string{
		`tags: ["t-{id}"]`:                                  nil,
		`tags: ["{id}{price}"]`:                             nil,
		`tags: ["t-{slug}"]`:                                {"tag t-{slug} [slug (text)] prefixes 20 parked", "tag t-{slug} [slug (text)] plain 30 parked"},
		`tags: ["{code}"]`:                                  {"tag {code} [code (character varying(4))] prefixes 20 parked", "tag {code} [code (character varying(4))] plain 30 parked"},
		`urls: ["https://shop.example/p/{code}"]`:           {"url https://shop.example/p/{code} [code (character varying(4))] prefixes 60 shop.example/p/", "url https://shop.example/p/{code} [code (character varying(4))] plain 30 parked"},
		`urls: ["https://shop.example/p/{slug}"]`:           {"url https://shop.example/p/{slug} [slug (text)] prefixes 60 shop.example/p/", "url https://shop.example/p/{slug} [slug (text)] plain 30 parked"},
		`tags: ["t-{lower(slug)}"]`:                         {"tag t-{lower(slug)} [slug (text)] prefixes 20 parked", "tag t-{lower(slug)} [slug (text)] plain 30 parked"},
		`tags: ["t-{data.a}"]`:                              {"tag t-{data.a} [data (jsonb)] prefixes 20 parked", "tag t-{data.a} [data (jsonb)] plain 30 parked"},
		`tags: ["t-{md5(slug)}"]`:                           nil,
		`keys: ["p:{slug}"]`:                                nil, // a pattern covers it, and 64 KiB are more than any key
		`keys: ["{slug}"]`:                                  {"key {slug} [slug (text)] valkey 65536 parked"},
		`keys: ["{name}"]`:                                  nil,
		`generations: ["g:{slug}"]`:                         {"generation g:{slug} [slug (text)] valkey 65536 parked"},
		`tags: ["t-{slug}"]` + "\nunknown: {tags: [all]}":   nil,
		`tags: ["t-{slug}"]` + "\nrollout: 0":               nil,
		"sinks: [plain]\n" + `tags: ["t-{slug}"]`:           {"tag t-{slug} [slug (text)] plain 30 parked"},
		"keys: [a]\n" + `to: {plain: {tags: ["t-{slug}"]}}`: {"tag t-{slug} [slug (text)] plain 30 parked"},
	} {
		var got []string
		for _, f := range cappedRule(t, body).TooLong(catalog) {
			require.Equal(t, "rules.yaml", f.File)
			require.NotZero(t, f.Line)
			after := f.Fallback.Value
			if f.Fallback.Parked() {
				after = "parked"
			}
			got = append(got, fmt.Sprintf("%s %s %v %s %d %s", f.Kind, f.Template, f.Reads, f.Sink, f.Cap, after))
		}
		require.Equal(t, want, got, body)
	}
}
