-- 24 merchants with 40 products each, in four categories.
INSERT INTO merchants (id, name) SELECT n, 'Merchant ' || n FROM generate_series(1, 24) AS n;
INSERT INTO categories (id, name) VALUES (1, 'Brooms'), (2, 'Cauldrons'), (3, 'Herbs'), (4, 'Robes');
INSERT INTO products (id, merchant_id, category_id, title, description, price_cents, stock, rank)
SELECT n, 1 + n % 24, 1 + n / 24 % 4, 'Product ' || n, repeat('A fine product, made with care. ', 20), 500 + n * 7 % 5000, n % 40, n % 1000
FROM generate_series(1, 960) AS n;
