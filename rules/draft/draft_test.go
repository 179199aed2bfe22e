package draft

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func table(schema, name string) cdc.Table { return cdc.Table{Schema: schema, Name: name} }

func columns(names ...string) []Column {
	var out []Column
	for _, n := range names {
		name, kept := strings.CutSuffix(n, "*") // in old rows
		out = append(out, Column{Name: name, Type: "bigint", Carried: kept})
	}
	return out
}

func parse(t require.TestingT, text string) *rules.Set {
	set, err := rules.Parse("draft", []byte(text), rules.Options{Sinks: []rules.SinkSpec{{Name: "all", Takes: invalidation.Kinds(invalidation.Key, invalidation.Tag)}}})
	require.NoError(t, err, "%s", text)
	return set
}

// body is the rules without header.
func body(made Result) string {
	_, after, _ := strings.Cut(made.Text, "\nrules:")
	return strings.TrimSpace(after)
}

func TestMake(t *testing.T) {
	users := table("public", "users")
	toUsers := func(column string) Foreign {
		return Foreign{Columns: []string{column}, Parent: users, Referenced: []string{"id"}, ParentKey: []string{"id"}}
	}
	for name, c := range map[string]struct {
		table Table
		opts  Options
		want  string
	}{
		"nothing": {Table{Table: users, Columns: columns("id"), Identity: cdc.IdentityFull}, Options{Keys: true},
			"[]\n\n# Not watched:\n#\n# public.users: nothing tells its rows apart, and it refers to no other table\n#   ALTER TABLE \"public\".\"users\" ADD PRIMARY KEY (...);"},
		"no primary key, but an index that is the identity": {Table{Table: users, Columns: columns("mail*", "x"), Identity: cdc.IdentityIndex}, Options{Keys: true},
			"- name: users\n    table: public.users\n    keys: [\"user:{mail}\"]"},
		"the whole row is the identity": {Table{Table: table("public", "likes"), Columns: columns("user_id*", "n*"), Identity: cdc.IdentityFull, Foreign: []Foreign{toUsers("user_id")}}, Options{Keys: true, Tags: true},
			"# By user_id it also belongs to user, whose lists are purged too.\n  - name: likes\n    table: public.likes\n    keys: [\"user:{user_id}:likes\"]\n    tags: [\"user-{user_id}\"]"},
		"friends join users with users": {Table{Table: table("public", "friends"), Columns: columns("a*", "b*"), Key: []string{"a", "b"}, Foreign: []Foreign{toUsers("a"), toUsers("b")}}, Options{Keys: true},
			"# A join table: a change of it is one of what it joins, user.\n  - name: friends\n    table: public.friends\n    keys: [\"user:{a}:friends\", \"user:{b}:friends\"]"},
		"one column of three is more than a join": {Table{Table: table("public", "friends"), Columns: columns("a*", "b*", "weight"), Key: []string{"a", "b"}, Foreign: []Foreign{toUsers("a"), toUsers("b")}}, Options{Tags: true},
			"# By a, b it also belongs to user, whose lists are purged too.\n  - name: friends\n    table: public.friends\n    tags: [\"friend-{a}-{b}\", \"user-{a}\", \"user-{b}\"]"},
		"a join that old rows do not name": {Table{Table: table("public", "friends"), Columns: columns("a", "b"), Identity: cdc.IdentityDefault, Foreign: []Foreign{toUsers("a"), toUsers("b")}}, Options{Keys: true},
			"[]\n\n# Not watched:\n#\n# public.friends: old rows in the log lack a, b, so a change could not be traced to user\n#   ALTER TABLE \"public\".\"friends\" REPLICA IDENTITY FULL;"},
		"a generated reference": {Table{Table: table("public", "posts"), Columns: []Column{{Name: "id", Type: "uuid", Carried: true}, {Name: "u", Generated: true}}, Key: []string{"id"}, Foreign: []Foreign{toUsers("u")}}, Options{Keys: true},
			"# It also belongs to user, by a generated column that is not in the log: u.\n  - name: posts\n    table: public.posts\n    keys: [\"post:{id}\"]"},
		"a generated key": {Table{Table: table("public", "posts"), Columns: []Column{{Name: "id", Carried: true, Generated: true}}, Key: []string{"id"}}, Options{Keys: true},
			"[]\n\n# Not watched:\n#\n# public.posts: its key has the generated column id, which is not in the log\n#   ALTER TABLE \"public\".\"posts\" REPLICA IDENTITY FULL;"},
		"an array, a list for each element": {Table{Table: table("public", "posts"), Columns: []Column{{Name: "id", Carried: true}, {Name: "tags", Type: "text[]", Carried: true, Labels: true}, {Name: "vector", Type: "real[]", Carried: true}}, Key: []string{"id"}, Identity: cdc.IdentityFull}, Options{Keys: true, Tags: true},
			"# By tags it also belongs to tag, whose lists are purged too.\n  - name: posts\n    table: public.posts\n    keys: [\"post:{id}\", \"tag:{tags}:posts\"]\n    tags: [\"post-{id}\", \"tag-{tags}\"]"},
		"an array named like a table": {Table{Table: table("public", "posts"), Columns: []Column{{Name: "id", Carried: true}, {Name: "users", Carried: true, Labels: true}}, Key: []string{"id"}, Identity: cdc.IdentityFull, Foreign: []Foreign{toUsers("id")}}, Options{Tags: true},
			"# By id, users it also belongs to user and post_user, whose lists are purged too.\n  - name: posts\n    table: public.posts\n    tags: [\"post-{id}\", \"user-{id}\", \"post_user-{users}\"]"},
		"an array that old rows lack": {Table{Table: table("public", "posts"), Columns: []Column{{Name: "id", Carried: true}, {Name: "tags", Labels: true}}, Key: []string{"id"}, Identity: cdc.IdentityDefault}, Options{Tags: true},
			"# It also belongs to tag, but old rows in the log lack tags (replica identity DEFAULT).\n  # UPDATE and DELETE therefore purge the tag \"posts\" too: put it on every page that shows such rows.\n  # For exact purges run this, then take `unknown` out:\n  #   ALTER TABLE \"public\".\"posts\" REPLICA IDENTITY FULL;\n  - name: posts\n    table: public.posts\n    tags: [\"post-{id}\", \"tag-{tags}\"]\n    unknown: {tags: [\"posts\"]}"},
		"trouble is told in lines": {Table{Table: table("public", "a\nb"), Trouble: "why\nnot", Fix: "one\ntwo"}, Options{Keys: true},
			"[]\n\n# Not watched:\n#\n# public.a\uFFFDb: why\uFFFDnot\n#   one\n#   two"},
	} {
		t.Run(name, func(t *testing.T) {
			made := Make([]Table{c.table}, c.opts)
			require.Equal(t, c.want, body(made))
			require.Len(t, parse(t, made.Text).Rules(), made.Rules)
			require.Equal(t, 1, made.Rules+made.LeftOut)
		})
	}
}

func TestNames(t *testing.T) {
	for plural, want := range map[string]string{
		"films": "film", "categories": "category", "addresses": "address", "staff": "staff", "status": "status", "statuses": "status",
		"address": "address", "boxes": "box", "branches": "branch", "caches": "cache", "houses": "house", "series": "series", "news": "news",
		"movies": "movie", "people": "person", "sales_people": "sales_person", "order_items": "order_item", "s": "", "bus": "bus", "analysis": "analysis",
	} {
		if want == "" {
			want = plural
		}
		require.Equal(t, want, singular(plural))
	}
	for name, want := range map[string]string{
		"Order Items": "order_items", "Straße": "strasse", "Übergröße": "ubergrosse", "顧客": "table", "__x__": "x", "a--b": "a_b", "T7": "t7", "": "table",
	} {
		require.Equal(t, want, slug(name))
	}
	var tables []Table
	for _, n := range []cdc.Table{table("public", "film"), table("public", "films"), table("public", "cars"), table("sales", "cars"), table("hr", "cars"), table("public", "Über"), table("public", "uber"), table("public", "über")} {
		tables = append(tables, Table{Table: n})
	}
	names := nameTables(tables)
	require.Equal(t, "film", names.words[table("public", "film")])
	require.Equal(t, "films", names.words[table("public", "films")])
	require.Equal(t, "car", names.words[table("public", "cars")])
	require.Equal(t, "sales_car", names.words[table("sales", "cars")])
	require.Equal(t, "hr_cars", names.rules[table("hr", "cars")])
}

// Whatever tables and columns are called, the loader takes the draft, rules have
// no need that the log does not meet, and a row's key comes out as it is.
func TestPropertyOddNames(t *testing.T) {
	name := rapid.OneOf(rapid.StringN(1, 8, 30).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }),
		rapid.StringOfN(rapid.RuneFrom([]rune("ab\"'\\{}.-:#,$ \n\t\u2028yesno")), 1, 8, 30),
		rapid.SampledFrom([]string{"row", "old", "new", "in", "true", "null", "y", "no", "vars", "op", "package", "type", "id", "${HOME}", "{{", "%s"}))
	rapid.Check(t, func(rt *rapid.T) {
		var tables []Table
		for _, n := range rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) cdc.Table { return table(name.Draw(t, "schema"), name.Draw(t, "table")) }), 1, 5, rapid.ID).Draw(rt, "tables") {
			all := rapid.SliceOfNDistinct(name, 1, 4, rapid.ID).Draw(rt, "columns")
			one := Table{Table: n, Identity: cdc.IdentityDefault, Key: all[:1]}
			for i, c := range all {
				one.Columns = append(one.Columns, Column{Name: c, Type: rapid.SampledFrom([]string{"bigint", "text"}).Draw(rt, "type"), Carried: i == 0 || rapid.Bool().Draw(rt, "carried"), Labels: rapid.IntRange(0, 4).Draw(rt, "labels") == 0})
			}
			for range rapid.IntRange(0, 2).Draw(rt, "foreign") {
				p := table(name.Draw(rt, "parent schema"), name.Draw(rt, "parent"))
				if len(tables) > 0 && rapid.Bool().Draw(rt, "known") {
					p = tables[0].Table
				}
				one.Foreign = append(one.Foreign, Foreign{Columns: []string{rapid.SampledFrom(all).Draw(rt, "column")}, Parent: p, Referenced: []string{"x"}, ParentKey: []string{name.Draw(rt, "key")}})
			}
			tables = append(tables, one)
		}
		opts := Options{Keys: true, Tags: rapid.Bool().Draw(rt, "tags")}
		made := Make(tables, opts)
		slices.Reverse(tables)
		require.Equal(rt, made, Make(tables, opts), "the order of the tables does not matter")
		set := parse(rt, made.Text)
		require.Len(rt, set.Rules(), made.Rules)
		for _, need := range set.Needs() {
			i := slices.IndexFunc(tables, func(t Table) bool { return t.Table == need.Table })
			require.True(rt, !need.Old || need.HasUnknown || tables[i].column(need.Column).Carried, "%+v\n%s", need, made.Text)
		}
		for i := range tables {
			checkKey(rt, set, &tables[i], made.Text)
		}
	})
}

// checkKey deletes a row and finds its own key among what is purged.
func checkKey(rt *rapid.T, set *rules.Set, t *Table, text string) {
	if !set.Matches(t.Table) || t.joins() {
		return
	}
	rel := &cdc.Relation{Schema: t.Schema, Name: t.Name, Identity: cdc.IdentityDefault}
	var row cdc.Tuple
	for i, c := range t.Columns {
		rel.Columns = append(rel.Columns, cdc.Column{Name: c.Name, TypeOID: 25, Key: c.Carried})
		v := cdc.Value{}
		if c.Carried {
			v = cdc.Value{Kind: cdc.Text, Data: []byte{'v', byte('0' + i)}}
		}
		row = append(row, v)
	}
	var keys []string
	for _, e := range set.Explain(context.Background(), &cdc.Change{Op: cdc.Delete, Rel: rel, Old: row}, nil) {
		for _, p := range e.Purges {
			if p.Kind == invalidation.Key {
				keys = append(keys, p.Value)
			}
		}
	}
	require.True(rt, slices.ContainsFunc(keys, func(k string) bool { return strings.HasSuffix(k, ":v0") && strings.Count(k, ":") == 1 }), "%q\n%s", keys, text)
}
