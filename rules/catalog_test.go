package rules

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

const locked = lockHeader + `version: 1
tables:
  public.categories:
    identity: index
    index: categories_identity
    key: [id, slug]
    columns:
      id: {type: bigint, oid: 20, not_null: true}
      slug: {type: text, oid: 25, not_null: true, toastable: true}
      "Order ID": {type: "numeric(12,2)", oid: 1700}
      "no": {type: mood}
      twice: {type: bigint, oid: 20, generated: true}
  public.products:
    identity: full
    columns:
      id: {type: bigint, oid: 20, not_null: true}
  shop.log:
    identity: nothing
    columns: {}
`

func TestCatalogFile(t *testing.T) {
	c, err := ParseCatalog("catalog.lock.yaml", []byte(locked))
	require.NoError(t, err)
	require.Equal(t, locked, string(c.YAML()))
	categories := c.Table(Table{Schema: "public", Name: "categories"})
	require.Equal(t, []string{"id", "slug"}, categories.Key())
	rel := categories.Relation()
	require.Equal(t, cdc.IdentityIndex, rel.Identity)
	require.Equal(t, []cdc.Column{
		{Name: "id", TypeOID: 20, TypeMod: -1, Key: true}, {Name: "slug", TypeOID: 25, TypeMod: -1, Key: true},
		{Name: "Order ID", TypeOID: 1700, TypeMod: -1}, {Name: "no", TypeMod: -1, Type: &cdc.DataType{Name: "mood"}},
	}, rel.Columns, "the stream does not carry a generated column")
	require.True(t, c.Table(Table{Schema: "public", Name: "products"}).Columns[0].Identity)
	require.Nil(t, c.Table(Table{Schema: "public", Name: "gone"}))
	require.Nil(t, (*Catalog)(nil).Table(Table{Schema: "public", Name: "products"}))
	require.Equal(t, lockHeader+"version: 1\ntables: {}\n", string(NewCatalog(nil).YAML()))
}

func TestBadCatalogFiles(t *testing.T) {
	const head = "version: 1\ntables:\n"
	for text, want := range map[string]string{
		"tables: {}\n":                                                                    "catalog.lock.yaml: version: want 1; write the file again with `walpurge rules lock`",
		"version: 2\ntables: {}\n":                                                        "catalog.lock.yaml:1:10: version: want 1",
		head + "  products: {identity: full}\n":                                           `catalog.lock.yaml:3:3: table "products": want schema.name with one dot, like public.products`,
		head + "  public.a: {identity: fulll}\n":                                          `catalog.lock.yaml:3:24: identity: "fulll"; write default, full, index or nothing`,
		head + "  public.a: {}\n":                                                         `catalog.lock.yaml:3:3: identity: nothing; write default, full, index or nothing`,
		head + "  public.a: {identity: index}\n":                                          "`index` names the index of `identity: index`",
		head + "  public.a: {identity: full, index: a}\n":                                 "`index` names the index of `identity: index`",
		head + "  public.a: {identity: full, key: [a]}\n":                                 "`key` is for the identities default and index",
		head + "  public.a: {identity: default, key: [a]}\n":                              `key: the table has no column "a"`,
		head + "  public.a: {identity: full, columns: {a: {}}}\n":                         `column "a": want a name and a ` + "`type`",
		head + "  public.a: {identity: full, columns: {a: {type: mood, oid: 16384}}}\n":   `oid: 16384 is not the same on every server; take it out`,
		head + "  public.a: {identity: full, columns: {no: {type: text}}}\n":              `the key no is a bool to some readers of YAML; quote it`,
		head + "  public.a: {identity: full, columns: {a: {type: text, toast: true}}}\n":  `unknown key "toast"; valid: type, base, enum, oid, not_null, toastable, generated`,
		head + "  public.a: {identity: full, columns: {a: {type: text, not_null: on}}}\n": `"on" is not a bool here; write true or false`,
	} {
		_, err := ParseCatalog("catalog.lock.yaml", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := LoadCatalog("testdata/gone.lock.yaml")
	require.ErrorContains(t, err, "read the catalog: open testdata/gone.lock.yaml")
}

// Whatever tables are called, what is written is read back as it was, and writing
// it again gives the same bytes.
func TestPropertyCatalogRoundTrip(t *testing.T) {
	name := rapid.OneOf(rapid.StringMatching(`[a-z_]{1,8}`), rapid.SampledFrom([]string{"no", "on", "null", "true", "~", "Order ID", `a"b\c`, "a: b", "#x", "- a", "{a}", "é漢🎉", "1", "1.5", "a\nb", "\t", "'", "y", "0x1", "&a", "%"}),
		rapid.StringN(1, 8, 30).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) && !strings.ContainsRune(s, '\ufffd') }))
	tableName := name.Filter(func(s string) bool { return !strings.Contains(s, ".") })
	rapid.Check(t, func(r *rapid.T) {
		var tables []CatalogTable
		for range rapid.IntRange(0, 3).Draw(r, "tables") {
			ct := CatalogTable{Table: Table{Schema: tableName.Draw(r, "schema"), Name: tableName.Draw(r, "table")},
				Identity: rapid.SampledFrom([]cdc.Identity{cdc.IdentityDefault, cdc.IdentityFull, cdc.IdentityIndex, cdc.IdentityNothing}).Draw(r, "identity")}
			if ct.Identity == cdc.IdentityIndex {
				ct.Index = name.Draw(r, "index")
			}
			for _, column := range rapid.SliceOfNDistinct(name, 0, 4, rapid.ID[string]).Draw(r, "columns") {
				ct.Columns = append(ct.Columns, CatalogColumn{Name: column, Type: name.Draw(r, "type"), OID: rapid.Uint32Range(0, 20000).Draw(r, "oid"),
					NotNull: rapid.Bool().Draw(r, "not null"), Identity: rapid.Bool().Draw(r, "key"), Toastable: rapid.Bool().Draw(r, "toastable"), Generated: rapid.Bool().Draw(r, "generated")})
			}
			tables = append(tables, ct)
		}
		want := NewCatalog(tables)
		text := want.YAML()
		got, err := ParseCatalog("", text)
		require.NoError(r, err, string(text))
		require.Equal(r, want, got)
		require.Equal(r, string(text), string(got.YAML()))
	})
}

// Whatever is in a lock file, it is refused or is a catalog that can be written.
func FuzzParseCatalog(f *testing.F) {
	for _, seed := range []string{locked, "version: 1\ntables: {a.b: {identity: full}}", "version: 1", "tables: [", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCatalog("", data)
		if err != nil {
			return
		}
		again, err := ParseCatalog("", c.YAML())
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func TestDrift(t *testing.T) {
	set := mustParse(t, "rules:\n  - {name: a, table: public.t, keys: ['{id}:{slug}:{lang}', '{lang}']}\n  - {name: b, table: public.u, keys: [k]}\n")
	tab := func(name string, identity cdc.Identity, columns ...CatalogColumn) CatalogTable {
		return CatalogTable{Table: Table{Schema: "public", Name: name}, Identity: identity, Columns: columns}
	}
	id := CatalogColumn{Name: "id", Type: "bigint", OID: 20, NotNull: true, Identity: true}
	slug := CatalogColumn{Name: "slug", Type: "text", OID: 25, Toastable: true}
	was := NewCatalog([]CatalogTable{tab("t", cdc.IdentityDefault, id, slug, CatalogColumn{Name: "price", Type: "numeric", OID: 1700}), tab("dropped", cdc.IdentityFull)})
	require.Empty(t, was.Drift(was, set))
	slug.Type, slug.OID, slug.NotNull, slug.Toastable = "character varying(20)", 1043, true, false
	is := NewCatalog([]CatalogTable{tab("t", cdc.IdentityFull, id, slug, CatalogColumn{Name: "lang", Type: "text", OID: 25}, CatalogColumn{Name: "other", Type: "text", OID: 25}), tab("u", cdc.IdentityFull), tab("stranger", cdc.IdentityFull)})
	require.Equal(t, []string{
		"table public.t: the replica identity is FULL now, was DEFAULT (id)",
		"table public.t: column slug is character varying(20) NOT NULL now, was text (stored apart when large)",
		"table public.t: column price is gone",
		"table public.t: column lang is new, and rule a reads it",
		"table public.u is not in it",
	}, was.Drift(is, set))
}
