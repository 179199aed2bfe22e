package status

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

var sinkNames = []string{"cache", "edge"}

func parse(t *testing.T, text string) *rules.Set {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(text), rules.Options{Sinks: []rules.SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPattern)}, {Name: "edge", Takes: invalidation.Kinds(invalidation.Tag)},
	}})
	require.NoError(t, err)
	return set
}

// table has columns with what their names end with: + is in old rows, - the publication
// leaves out, = is generated and not published.
func table(name string, columns ...string) *postgres.TableInfo {
	t := &postgres.TableInfo{Table: cdc.Table{Schema: "public", Name: name}, Identity: cdc.IdentityDefault, Usable: true, Published: true}
	for _, c := range columns {
		one := postgres.ColumnInfo{Carried: true}
		switch last := len(c) - 1; c[last] {
		case '+':
			c, one.Identity = c[:last], true
		case '-':
			c, one.Carried = c[:last], false
		case '=':
			c, one.Carried, one.Generated = c[:last], false, true
		}
		one.Name = c
		t.Columns = append(t.Columns, one)
	}
	return t
}

func tables(all ...*postgres.TableInfo) map[cdc.Table]*postgres.TableInfo {
	out := make(map[cdc.Table]*postgres.TableInfo)
	for _, t := range all {
		out[t.Table] = t
	}
	return out
}

func TestUnfit(t *testing.T) {
	const rule = "rules:\n  - {name: product, table: public.products, "
	for _, c := range []struct {
		name, rules string
		tables      []*postgres.TableInfo
		// want is covered, unread and the text of each problem.
		want []string
	}{
		{"nothing", rule + `keys: ["p:{id}"]}`, []*postgres.TableInfo{table("products", "id+")}, nil},
		{"a table that nobody watches", rule + `keys: ["p:{id}"]}`, []*postgres.TableInfo{table("others", "x")}, nil},
		{"a column is gone", rule + `keys: ["p:{id}", "s:{slug}"]}`, []*postgres.TableInfo{table("products", "id+", "slug2+")}, []string{
			"false true rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"and is covered", rule + `keys: ["s:{slug}"], unknown: {keys: [all], covers: true}}`, []*postgres.TableInfo{table("products", "id+")}, []string{
			"true false rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"a key does not cover others", rule + `keys: ["s:{slug}"], unknown: {keys: [all]}}`, []*postgres.TableInfo{table("products", "id+")}, []string{
			"false true rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"unknown covers the cache alone", rule + `keys: ["s:{slug}"], tags: ["s-{slug}"], unknown: {keys: [all]}}`, []*postgres.TableInfo{table("products", "id+")}, []string{
			"false true rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"a condition's column is gone", rule + `when: row.state == 'on', keys: ["p:{id}"]}`, []*postgres.TableInfo{table("products", "id+")}, []string{
			"false false rules.yaml:2: rule \"product\": table public.products has no column \"state\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"an expression's column is gone", rule + `keys: ["p:{lower(slug)}"]}`, []*postgres.TableInfo{table("products", "id+")}, []string{
			"false true rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"a lookup's argument is gone, and unknown does not cover its keys", rule + `lookup: {m: {sql: "SELECT x FROM y WHERE z = $1", args: ["{slug}"]}}, keys: ["p:{m.x}"], unknown: {keys: [all]}}`,
			[]*postgres.TableInfo{table("products", "id+")}, []string{
				"false true rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"a lookup's argument is gone", rule + `lookup: {m: {sql: "SELECT x FROM y WHERE z = $1", args: ["{slug}"]}}, keys: ["p:{m.x}"], unknown: {keys: [all], covers: true}}`,
			[]*postgres.TableInfo{table("products", "id+")}, []string{
				"true false rules.yaml:2: rule \"product\": table public.products has no column \"slug\" any more, so it counts as unknown; correct the rule, or bring the column back"}},
		{"a column is left out", rule + `keys: ["p:{id}", "s:{slug}"]}`, []*postgres.TableInfo{table("products", "id+", "slug-")}, []string{
			"false true rules.yaml:2: rule \"product\": the column list of the publication leaves out \"slug\" of table public.products, so it counts as unknown; " +
				"take the table out of the publication and add it without a list, or give the rule an `unknown`"}},
		{"a column became generated", rule + `keys: ["p:{id}", "s:{slug}"]}`, []*postgres.TableInfo{table("products", "id+", "slug=")}, []string{
			"false true rules.yaml:2: rule \"product\": column \"slug\" of table public.products is generated and not published, so it counts as unknown; use the columns that it is computed from"}},
		{"old rows lack a column", rule + `keys: ["p:{id}", "s:{slug}"]}`, []*postgres.TableInfo{table("products", "id+", "slug")}, []string{
			"false true rules.yaml:2: rule \"product\" purges by the old slug of public.products, which replica identity DEFAULT does not carry, so a change of it leaves the old entry in the cache; " +
				"ALTER TABLE public.products REPLICA IDENTITY USING INDEX (a unique index with it and the primary key), or REPLICA IDENTITY FULL, or give the rule an `unknown`"}},
		{"and unknown does not cover it", rule + `keys: ["s:{slug}"], unknown: {keys: [all]}}`, []*postgres.TableInfo{table("products", "id+", "slug")}, []string{
			"false true rules.yaml:2: rule \"product\" purges by the old slug of public.products, which replica identity DEFAULT does not carry, so a change of it leaves the old entry in the cache; " +
				"ALTER TABLE public.products REPLICA IDENTITY USING INDEX (a unique index with it and the primary key), or REPLICA IDENTITY FULL, " +
				"or let `unknown` name a tag, a generation or a prefix that covers what the rule purges, or write `covers: true` in it if it does"}},
		{"left out, and unknown does not cover it", rule + `keys: ["s:{slug}"], unknown: {keys: [all]}}`, []*postgres.TableInfo{table("products", "id+", "slug-")}, []string{
			"false true rules.yaml:2: rule \"product\": the column list of the publication leaves out \"slug\" of table public.products, so it counts as unknown; " +
				"take the table out of the publication and add it without a list, " +
				"or let `unknown` name a tag, a generation or a prefix that covers what the rule purges, or write `covers: true` in it if it does"}},
		{"a tag covers keys", rule + `tags: ["s-{slug}"], unknown: {tags: [all]}}`, []*postgres.TableInfo{table("products", "id+", "slug")}, []string{
			"true false rules.yaml:2: rule \"product\" purges by the old slug of public.products, which replica identity DEFAULT does not carry, so `unknown` is purged with it"}},
		{"and that is covered", rule + `keys: ["s:{slug}"], unknown: {keys: [all], covers: true}}`, []*postgres.TableInfo{table("products", "id+", "slug")}, []string{
			"true false rules.yaml:2: rule \"product\" purges by the old slug of public.products, which replica identity DEFAULT does not carry, so `unknown` is purged with it"}},
		{"old rows are not read", rule + `ops: [insert], keys: ["s:{slug}"]}`, []*postgres.TableInfo{table("products", "id+", "slug")}, nil},
		{"only new values are purged", rule + `keys: ["s:{new.slug}"]}`, []*postgres.TableInfo{table("products", "id+", "slug")}, nil},
		{"a condition on old rows", rule + `when: changed(slug), keys: ["p:{id}"]}`, []*postgres.TableInfo{table("products", "id+", "slug")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range Unfit(parse(t, c.rules), tables(c.tables...)) {
				require.Equal(t, []string{"product"}, p.Rules)
				got = append(got, fmt.Sprint(p.Covered, " ", p.Unread, " ", p.Text))
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Tables of a pattern that lack the same are one problem, and what is wrong with a table of
// one rule is none of another's.
func TestUnfitOfPatterns(t *testing.T) {
	set := parse(t, `
rules:
  - {name: order, table: "tenant_{tenant}.orders", keys: ["{tenant}:{code}"]}
  - {name: product, table: public.products, tags: ["p-{id}"]}
`)
	of := func(tenant string, columns ...string) *postgres.TableInfo {
		info := table("orders", columns...)
		info.Schema = "tenant_" + tenant
		return info
	}
	differing := table("products", "id+")
	differing.Differing, differing.DifferingIdentity, differing.Identity = "products_2026", "FULL", cdc.IdentityFull
	found := Unfit(set, tables(of("a", "id+"), of("b", "id+"), of("c", "id+", "code+"), of("d", "id+", "code+", "tenant"), differing))
	require.Len(t, found, 3)
	slices.SortFunc(found, func(a, b postgres.Problem) int { return len(b.Tables) - len(a.Tables) })
	require.Contains(t, found[0].Text, `table tenant_a.orders (and 1 more) has no column "code"`)
	require.Equal(t, []cdc.Table{{Schema: "tenant_a", Name: "orders"}, {Schema: "tenant_b", Name: "orders"}}, found[0].Tables)
	require.Contains(t, found[1].Text+found[2].Text, "is a part of the table's name and a column of tenant_d.orders")
	require.Contains(t, found[1].Text+found[2].Text, "partition products_2026 of public.products has another replica identity than the root (FULL)")
}

// A problem concerns the sinks to which the values of its rules go, and no others.
func TestProblemsNameRulesAndSinks(t *testing.T) {
	set := parse(t, `
rules:
  - {name: product, table: public.products, keys: ["p:{id}"]}
  - {name: page, table: public.products, tags: ["p-{id}"]}
  - {name: order, table: public.orders, keys: ["o:{id}"], tags: ["o-{id}"]}
  - {name: sent, message: app.purge, sinks: [edge]}
`)
	products, orders := cdc.Table{Schema: "public", Name: "products"}, cdc.Table{Schema: "public", Name: "orders"}
	at := time.Now()
	for _, c := range []struct {
		name         string
		found        postgres.Problem
		rules, sinks []string
	}{
		{"of one rule", postgres.Problem{Tables: []cdc.Table{products}, Rules: []string{"product"}}, []string{"product"}, []string{"cache"}},
		{"of a table", postgres.Problem{Tables: []cdc.Table{products}}, []string{"product", "page"}, sinkNames},
		{"of two tables", postgres.Problem{Tables: []cdc.Table{orders, products}}, []string{"product", "page", "order"}, sinkNames},
		{"of the publication", postgres.Problem{}, []string{"product", "page", "order"}, sinkNames},
	} {
		c.found.Since, c.found.Text, c.found.Column = at, "x", "y"
		got := Problems(set, sinkNames, []postgres.Problem{c.found})
		require.Len(t, got, 1, c.name)
		require.Equal(t, c.rules, got[0].Rules, c.name)
		require.Equal(t, c.sinks, got[0].Sinks, c.name)
		require.Equal(t, []any{"x", "y", at}, []any{got[0].Text, got[0].Column, got[0].Since}, c.name)
	}
	require.Empty(t, Problems(set, sinkNames, []postgres.Problem{{Tables: []cdc.Table{{Schema: "public", Name: "unwatched"}}}}))
	require.NotNil(t, Problems(set, sinkNames, nil), "none is an empty list in JSON")

	all := Problems(set, sinkNames, []postgres.Problem{{Covered: true, Text: "covered"}, {Rules: []string{"product"}, Text: "open"}})
	require.Equal(t, "open", all[0].Text)
	require.Equal(t, "open", At(all, "cache").Text)
	require.Equal(t, "open", At(all, "").Text)
	require.Nil(t, At(all, "edge"))
}
