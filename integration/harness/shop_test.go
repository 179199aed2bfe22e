package harness

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/deploy/examples/shop"
)

// The sample shop's schema is accepted, and its changes can be published.
func TestShopSchema(t *testing.T) {
	ctx := testContext(t)
	pg := startPostgres(t, PostgresConfig{})
	require.NoError(t, pg.Exec(ctx, "postgres", "CREATE DATABASE shop"))
	require.NoError(t, pg.Exec(ctx, "shop", shop.SchemaSQL))
	var identities string
	require.NoError(t, pg.QueryRow(ctx, "shop", `
		SELECT string_agg(relname || '=' || relreplident::text, ' ' ORDER BY relname)
		FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`, &identities))
	require.Equal(t, "categories=i menu_items=i product_categories=d products=f", identities)
	require.NoError(t, pg.Exec(ctx, "shop", "CREATE PUBLICATION p FOR TABLE products, categories, product_categories, menu_items"))
	// As the application: every kind of change must still be allowed.
	require.NoError(t, pg.Exec(ctx, "shop", `
		INSERT INTO products (slug, name, price_cents, merchant_id) VALUES ('new', 'New', 1, 1);
		UPDATE products SET slug = 'newer' WHERE slug = 'new';
		UPDATE categories SET slug = 'besoms' WHERE id = 1;
		UPDATE menu_items SET store_id = 2 WHERE id = 1;
		DELETE FROM categories WHERE id = 2;
		DELETE FROM menu_items WHERE id = 1;
		TRUNCATE products, product_categories`))
}
